"""`bwenge rotate-keys`: a new key signs, and the last one verifies until its tokens have expired."""

import asyncio
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from bwenge.apps.secrets import Secrets
from bwenge.apps.settings import Settings
from bwenge.apps.signing_keys import FILE_NAME, KEPT, DamagedKeyCount, SigningKeys
from bwenge.auth.tokens import ACCESS_TOKEN_LIFETIME, AccessTokenIssuer, AccessTokenVerifier, TokenKeys
from bwenge.kit.errors import Unauthenticated
from bwenge.kit.identity import Principal, Role
from bwenge.kit.ids import new_id
from tests.support.application import Application
from tests.support.waiting import eventually

SESSION_ID = new_id()
PRINCIPAL = Principal(user_id=new_id(), org_id=new_id(), role=Role.EXPERT, session_id=SESSION_ID)
KEY = "k" * 48


class Clock:
    def __init__(self) -> None:
        self.now = datetime.now(UTC)

    def __call__(self) -> datetime:
        return self.now


def _secrets(folder: Path) -> Secrets:
    return Secrets.load(Settings(_env_file=None, data_dir=folder, secret_key=KEY))


def _keys(signing: SigningKeys) -> TokenKeys:
    present = signing.present()
    return TokenKeys(present.signing_key_pem, other_public_keys_pem=present.others_pem)


def _token(keys: TokenKeys) -> str:
    return AccessTokenIssuer(keys).issue(PRINCIPAL, family_id=SESSION_ID)


def _accepts(keys: TokenKeys, token: str) -> bool:
    try:
        return AccessTokenVerifier(keys.public_keys).verify(token) == PRINCIPAL
    except Unauthenticated:
        return False


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def signing(tmp_path: Path, clock: Clock) -> SigningKeys:
    return SigningKeys(_secrets(tmp_path), tmp_path, clock=clock)


def test_the_first_key_is_the_one_that_signed_before_there_were_rotations(signing: SigningKeys, tmp_path: Path) -> None:
    assert signing.present().signing_key_pem == _secrets(tmp_path).signing_key_pem()


def test_after_a_rotation_another_key_signs_and_the_last_one_verifies_until_its_tokens_have_expired(
    signing: SigningKeys, clock: Clock
) -> None:
    before = _keys(signing)
    token = _token(before)
    assert signing.rotate() == clock.now + KEPT
    after = _keys(signing)

    assert after.kid != before.kid
    assert _accepts(after, token)
    assert before.kid in {key["kid"] for key in after.jwks()["keys"]}
    assert after.jwks()["keys"][0]["kid"] == after.kid
    clock.now += ACCESS_TOKEN_LIFETIME
    assert _accepts(_keys(signing), token)
    clock.now += KEPT
    assert before.kid not in _keys(signing).public_keys


def test_each_of_two_rotations_in_a_row_keeps_its_last_key(signing: SigningKeys) -> None:
    tokens = []
    for _ in range(3):
        tokens.append(_token(_keys(signing)))
        signing.rotate()

    assert all(_accepts(_keys(signing), token) for token in tokens)


def test_machines_with_one_secret_rotate_one_after_the_other_and_refuse_no_token(tmp_path: Path, clock: Clock) -> None:
    machines = [SigningKeys(_secrets(tmp_path), tmp_path / name, clock=clock) for name in ("one", "two")]
    machines[0].rotate()
    first, second = (_keys(machine) for machine in machines)

    assert _accepts(second, _token(first))
    assert _accepts(first, _token(second))
    clock.now += timedelta(minutes=30)
    machines[1].rotate()
    assert _keys(machines[1]).kid == first.kid


def test_the_file_holds_no_key_and_is_its_owners_alone(signing: SigningKeys, tmp_path: Path) -> None:
    signing.rotate()

    path = tmp_path / FILE_NAME
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert "PRIVATE" not in path.read_text()


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"retired_at": ["yesterday"]}', '{"retired_at": ["2026-11-25"]}'])
def test_a_damaged_count_is_told_and_not_begun_anew(signing: SigningKeys, tmp_path: Path, content: str) -> None:
    (tmp_path / FILE_NAME).write_text(content)

    with pytest.raises(DamagedKeyCount, match=FILE_NAME):
        signing.present()
    with pytest.raises(DamagedKeyCount):
        signing.rotate()
    assert (tmp_path / FILE_NAME).read_text() == content


async def test_a_running_platform_takes_the_new_key_up(application: Application, tmp_path: Path) -> None:
    person = await application.register()
    signing, keys = application.platform.signing_keys, application.platform.auth.keys
    before = keys.kid
    SigningKeys(Secrets.load(Settings(_env_file=None, data_dir=tmp_path)), tmp_path).rotate()
    signing.start(keys)
    try:
        await asyncio.to_thread(eventually, lambda: keys.kid != before, "the new key")
    finally:
        await signing.stop()

    published = (await application.client.get("/.well-known/jwks.json")).json()["keys"]
    assert [published[0]["kid"], before in {key["kid"] for key in published}] == [keys.kid, True]
    assert (await application.client.get("/users/me", headers=person.headers)).status_code == 200
