"""GET and PATCH /orgs/{org_id}."""

from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bwenge.auth.organizations import require_time_zone
from bwenge.kit.identity import Role
from tests.support.feature_app import code_of
from tests.support.memberships import School


@pytest.mark.parametrize("role", list(Role))
async def test_every_member_reads_their_own_organisation(school: School, role: Role) -> None:
    answer = await school.by_role(role).get(school.path())

    organization = answer.json()
    assert organization.pop("created_at").endswith("Z")
    assert organization == {
        "org_id": str(school.org_id),
        "name": "Groupe Scolaire Kimironko",
        "time_zone": "Africa/Kigali",
        "language": "en",
    }


async def test_no_other_organisation_is_there(school: School) -> None:
    answers = [await school.owner.call(method, f"/orgs/{uuid4()}", {}) for method in ("GET", "PATCH")]

    assert [code_of(answer) for answer in answers] == [(404, "not_found")] * 2


async def test_an_owner_changes_it_and_the_log_says_so(school: School) -> None:
    changes = {"name": "GS Remera", "time_zone": "Africa/Nairobi", "language": "rw"}
    answer = await school.owner.call("PATCH", school.path(), changes)
    await school.owner.call("PATCH", school.path(), {"language": "rw", "name": None})

    assert answer.json().items() >= changes.items()
    assert (await school.learner.get(school.path())).json() == answer.json()
    [entry] = await school.audited()
    assert (entry["action"], entry["detail"]) == (
        "organization.changed",
        {"fields": ["language", "name", "time_zone"]},
    )


@pytest.mark.parametrize("role", [Role.ADMIN, Role.EXPERT, Role.USER])
async def test_only_an_owner_changes_it(school: School, role: Role) -> None:
    answer = await school.by_role(role).call("PATCH", school.path(), {"name": "X"})

    assert code_of(answer) == (403, "forbidden")


@pytest.mark.parametrize(
    "body",
    [
        {"time_zone": "Kigali"},
        {"time_zone": "localtime"},
        {"time_zone": "../../etc/passwd"},
        {"time_zone": ""},
        {"language": "de"},
        {"name": ""},
        {"plan": "pro"},
    ],
)
async def test_bad_fields_are_refused(school: School, body: dict[str, Any]) -> None:
    answer = await school.owner.call("PATCH", school.path(), body)

    assert code_of(answer) == (422, "invalid")
    assert answer.json()["errors"][0]["field"] == next(iter(body))


@given(st.text(max_size=64))
def test_nothing_but_a_zones_name_is_a_time_zone(name: str) -> None:
    try:
        assert require_time_zone(name) == name
    except ValueError as error:
        assert "IANA" in str(error)  # noqa: PT017  # either outcome is right, and each has its law
