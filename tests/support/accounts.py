"""Bodies of registrations and logins."""

from typing import Any, Final

EMAIL: Final = "aline@gs-kimironko.rw"
USERNAME: Final = "Aline.Uwase"
PASSWORD: Final = "ikinyugunyugu cy'umuhondo"


def registration(**changes: Any) -> dict[str, Any]:
    """A valid body of POST /auth/register; a change to None leaves the field out."""
    body = {
        "name": "Aline Uwase",
        "email": EMAIL,
        "username": USERNAME,
        "password": PASSWORD,
        "org_name": "Groupe Scolaire Kimironko",
    }
    return {field: value for field, value in {**body, **changes}.items() if value is not None}
