"""Which passwords are too easily guessed to be set.

After NIST SP 800-63B, section 3.1.1.2: no rules of composition, but a list of common passwords and the account's own
names. The list is the one of 30,000 that the package zxcvbn carries.
"""

import unicodedata
from collections.abc import Iterator
from functools import cache
from typing import Final

from bwenge.auth.errors import CommonPassword
from bwenge.auth.models import User

OWN_CHARACTERS: Final = 5
"""As many must a password have beside the account's own names."""
_NAME_CHARACTERS: Final = 3
"""A shorter name stands in many a good password by chance."""


def require_uncommon(password: str, *, field: str) -> None:
    """Refuse what everybody tries first; `field` is the client's name for the password.

    Raises:
        CommonPassword
    """
    if _folded(password).strip() in _common_passwords():
        raise CommonPassword(field)


def require_impersonal(password: str, user: User, *, field: str) -> None:
    """Refuse a password that is hardly more than the account's own address, username or name.

    Raises:
        CommonPassword
    """
    rest = _folded(password)
    for name in sorted(set(_names(user)), key=len, reverse=True):
        rest = rest.replace(name, "")
    if rest != _folded(password) and len(rest) < OWN_CHARACTERS:
        raise CommonPassword(field)


def _names(user: User) -> Iterator[str]:
    """Each name as a whole, and the person's also without its spaces."""
    given = [user.email, user.username, user.name, user.name.replace(" ", "")]
    given += [] if user.email is None else [user.email.partition("@")[0]]
    for name in given:
        if name is not None and len(name) >= _NAME_CHARACTERS:
            yield _folded(name)


@cache
def _common_passwords() -> frozenset[str]:
    # Imported where it is needed: the module holds a hundred thousand words of other lists too.
    from zxcvbn.frequency_lists import FREQUENCY_LISTS  # noqa: PLC0415  # as said above

    return frozenset(_folded(password) for password in FREQUENCY_LISTS["passwords"])


def _folded(text: str) -> str:
    return unicodedata.normalize("NFC", text).casefold()
