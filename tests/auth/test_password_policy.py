"""Which passwords are refused for being too easily guessed."""

from typing import Any

import pytest
from httpx2 import AsyncClient
from hypothesis import given
from hypothesis import strategies as st

from bwenge.auth.errors import CommonPassword
from bwenge.auth.models import User
from bwenge.auth.password_policy import OWN_CHARACTERS, require_impersonal, require_uncommon
from tests.support.accounts import registration
from tests.support.feature_app import code_of


def _user(**changes: str | None) -> User:
    names: dict[str, Any] = {"name": "Aline Uwase", "email": "a.uwase@school.rw", "username": "aline.u"} | changes
    return User(**names)


def _is_refused(password: str, **changes: str | None) -> bool:
    try:
        require_impersonal(password, _user(**changes), field="password")
    except CommonPassword:
        return True
    return False


@pytest.mark.parametrize("password", ["password", "12345678", "PassWord", "iloveyou", " password "])
async def test_a_common_password_is_refused_at_registration_by_name(client: AsyncClient, password: str) -> None:
    answer = await client.post("/auth/register", json=registration(password=password))

    assert code_of(answer) == (422, "invalid")
    [finding] = answer.json()["errors"]
    assert (finding["field"], finding["code"]) == ("password", "too_common")
    assert answer.json()["detail"]


async def test_the_accounts_own_names_are_refused_at_registration(client: AsyncClient) -> None:
    answer = await client.post("/auth/register", json=registration(password="Aline.Uwase1"))

    assert answer.json()["errors"][0]["code"] == "too_common"


@pytest.mark.parametrize(
    "password",
    ["Aline Uwase", "alineuwase", "ALINEUWASE2026", "a.uwase@school.rw", "a.uwase!", "2026aline.u", "aline.ualine.u"],
)
def test_a_password_that_is_hardly_more_than_the_accounts_names_is_refused(password: str) -> None:
    assert _is_refused(password)


@pytest.mark.parametrize("password", ["Aline Uwase sings", "correct horse battery", "uwase-na-gatete-2"])
def test_a_password_that_has_enough_of_its_own_beside_a_name_is_taken(password: str) -> None:
    assert not _is_refused(password)


def test_a_name_of_two_letters_spoils_no_password() -> None:
    assert not _is_refused("ab12ab34", name="Ab", username="ab1ab", email=None)


@given(st.text(alphabet="abcdefgh", min_size=OWN_CHARACTERS, max_size=20))
def test_what_holds_no_name_is_never_called_personal(password: str) -> None:
    assert not _is_refused(password, name="Zuri", username="zuri.z", email="zz.top@school.rw")


@given(st.text(min_size=1, max_size=20), st.sampled_from(["password", "dragon12", "iloveyou"]))
def test_only_whole_passwords_are_compared_with_the_list(rest: str, common: str) -> None:
    longer = f"{common} {rest} {common}"

    require_uncommon(longer, field="password")
