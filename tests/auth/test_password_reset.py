"""POST /auth/password/forgot and /auth/password/reset by a mailed link."""

import asyncio
import re
from typing import Any

import pytest
from httpx2 import AsyncClient, Response
from sqlalchemy import text
from structlog.testing import capture_logs

from bwenge.auth.models import User
from bwenge.auth.wiring import AuthFeature
from bwenge.kit.mail import MailUnavailable
from tests.auth.conftest import PUBLIC_URL, TurnedClock
from tests.support.accounts import EMAIL, PASSWORD, USERNAME, registration
from tests.support.audit import audited
from tests.support.databases import SavepointDatabase
from tests.support.feature_app import code_of
from tests.support.memberships import Outbox

NEW = "inyoni zo mu gishanga"
LINK = re.compile(rf"{PUBLIC_URL}/app/reset\?token=([\w-]+)")


async def _forget(client: AsyncClient, feature: AuthFeature, **account: str) -> Response:
    answer = await client.post("/auth/password/forgot", json=account or {"email": EMAIL})
    await feature.recovery.finish()
    return answer


async def _token(client: AsyncClient, feature: AuthFeature, mailbox: Outbox) -> str:
    await _forget(client, feature)
    found = LINK.search(mailbox.mails[-1].text)
    assert found is not None
    return found[1]


async def _reset(client: AsyncClient, token: str, new: str = NEW) -> Response:
    return await client.post("/auth/password/reset", json={"token": token, "new_password": new})


async def _log_in(client: AsyncClient, password: str) -> int:
    return (await client.post("/auth/login", json={"email": EMAIL, "password": password})).status_code


@pytest.mark.usefixtures("login")
@pytest.mark.parametrize(
    "account", [{"email": EMAIL.upper()}, {"username": USERNAME}, {"identifier": EMAIL}, {"identifier": USERNAME}]
)
async def test_a_link_is_mailed_to_the_accounts_address(
    client: AsyncClient, feature: AuthFeature, mailbox: Outbox, account: dict[str, str]
) -> None:
    await _forget(client, feature, **account)

    [mail] = mailbox.mails
    assert mail.to == EMAIL
    assert "Aline Uwase" in mail.text
    assert LINK.search(mail.text)


@pytest.mark.usefixtures("login")
async def test_the_answer_is_the_same_for_an_unknown_account_and_nothing_is_mailed(
    client: AsyncClient, feature: AuthFeature, mailbox: Outbox
) -> None:
    known = await _forget(client, feature)
    unknown = await _forget(client, feature, email="nobody@gs-kimironko.rw")

    assert known.status_code == unknown.status_code == 202
    assert known.content == unknown.content
    assert len(mailbox.mails) == 1


@pytest.mark.usefixtures("login")
async def test_the_answer_does_not_wait_for_what_would_tell_whether_there_is_such_an_account(
    client: AsyncClient, feature: AuthFeature, mailbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    go = asyncio.Event()
    prepare = feature.recovery._prepare_link

    async def wait_and_prepare(identifier: str) -> tuple[User, str] | None:
        await go.wait()
        return await prepare(identifier)

    monkeypatch.setattr(feature.recovery, "_prepare_link", wait_and_prepare)
    answer = await client.post("/auth/password/forgot", json={"email": EMAIL})
    assert (answer.status_code, mailbox.mails) == (202, [])
    go.set()
    await feature.recovery.finish()
    assert len(mailbox.mails) == 1


@pytest.mark.usefixtures("login")
async def test_a_link_sets_the_password_once_and_ends_every_session(
    client: AsyncClient, feature: AuthFeature, mailbox: Outbox, login: dict[str, Any]
) -> None:
    token = await _token(client, feature, mailbox)
    answer = await _reset(client, token)

    assert (answer.status_code, answer.content) == (204, b"")
    assert (await _log_in(client, PASSWORD), await _log_in(client, NEW)) == (401, 200)
    refreshed = await client.post("/auth/refresh", json={"refresh_token": login["refresh_token"]})
    assert refreshed.status_code == 401
    assert code_of(await _reset(client, token)) == (401, "invalid_reset")


async def test_an_operator_sets_a_forgotten_password_by_a_mailed_link(
    client: AsyncClient, feature: AuthFeature, mailbox: Outbox, database: SavepointDatabase
) -> None:
    email = "ineza@bwenge.example"
    await feature.operators.create(email, name="Ineza", password=PASSWORD)
    await _forget(client, feature, email=email)
    [mail] = mailbox.mails
    found = LINK.search(mail.text)
    assert found is not None

    assert (await _reset(client, found[1])).status_code == 204
    for password, status in ((PASSWORD, 401), (NEW, 200)):
        answer = await client.post("/auth/login", json={"email": email, "password": password})
        assert answer.status_code == status
    assert [entry.org_id for entry in await audited(database, action="password.reset")] == [None]


@pytest.mark.usefixtures("login")
async def test_a_used_link_takes_the_others_along(client: AsyncClient, feature: AuthFeature, mailbox: Outbox) -> None:
    first, second = [await _token(client, feature, mailbox) for _ in range(2)]
    await _reset(client, second)

    assert code_of(await _reset(client, first)) == (401, "invalid_reset")


@pytest.mark.usefixtures("login")
async def test_a_link_works_for_one_hour(
    client: AsyncClient, feature: AuthFeature, mailbox: Outbox, clock: TurnedClock
) -> None:
    token, other = [await _token(client, feature, mailbox) for _ in range(2)]
    clock.turn(minutes=59)
    assert (await _reset(client, token)).status_code == 204
    late = await _token(client, feature, mailbox)
    clock.turn(minutes=60, seconds=1)

    for expired in (late, other):
        assert code_of(await _reset(client, expired)) == (401, "invalid_reset")


@pytest.mark.usefixtures("login")
async def test_a_refused_password_does_not_use_the_link_up(
    client: AsyncClient, feature: AuthFeature, mailbox: Outbox
) -> None:
    token = await _token(client, feature, mailbox)
    for easy in ("password1", "Aline.Uwase1"):
        refused = await _reset(client, token, easy)
        assert code_of(refused) == (422, "invalid")
        assert refused.json()["errors"][0] | {"message": ""} == {
            "field": "new_password",
            "code": "too_common",
            "message": "",
        }

    assert (await _reset(client, token)).status_code == 204


async def test_of_two_who_use_one_link_at_once_one_sets_the_password(
    committed_client: AsyncClient, committed_feature: AuthFeature, mailbox: Outbox
) -> None:
    await committed_client.post("/auth/register", json=registration())
    token = await _token(committed_client, committed_feature, mailbox)
    answers = await asyncio.gather(*(_reset(committed_client, token, f"{NEW} {number}") for number in range(3)))

    assert sorted(answer.status_code for answer in answers) == [204, 401, 401]


@pytest.mark.usefixtures("login")
async def test_who_could_not_log_in_any_more_logs_in_after_a_reset(
    client: AsyncClient, feature: AuthFeature, mailbox: Outbox
) -> None:
    for _ in range(5):
        await _log_in(client, "wrong")
    assert await _log_in(client, PASSWORD) == 429
    await _reset(client, await _token(client, feature, mailbox))

    assert await _log_in(client, NEW) == 200


async def test_a_deactivated_member_is_mailed_nothing_and_sets_nothing(
    client: AsyncClient, feature: AuthFeature, mailbox: Outbox, database: SavepointDatabase, login: dict[str, Any]
) -> None:
    token = await _token(client, feature, mailbox)
    async with database.superuser() as connection:
        await connection.execute(
            text("UPDATE users SET is_active = false WHERE id = :id"), {"id": login["user"]["user_id"]}
        )
    await _forget(client, feature)

    assert len(mailbox.mails) == 1
    assert code_of(await _reset(client, token)) == (401, "invalid_reset")


@pytest.mark.usefixtures("login")
async def test_no_mailbox_is_filled_by_who_asks_again_and_again(
    client: AsyncClient, feature: AuthFeature, mailbox: Outbox, clock: TurnedClock
) -> None:
    for _ in range(6):
        assert (await _forget(client, feature)).status_code == 202
    assert len(mailbox.mails) == 3
    clock.turn(hours=1, seconds=1)
    await _forget(client, feature)

    assert len(mailbox.mails) == 4


@pytest.mark.usefixtures("login")
async def test_a_mail_server_that_is_away_changes_no_answer_and_is_noted_without_addresses(
    client: AsyncClient, feature: AuthFeature, mailbox: Outbox
) -> None:
    before = await _forget(client, feature)
    mailbox.failure = MailUnavailable()
    with capture_logs() as records:
        answer = await _forget(client, feature)

    assert (answer.status_code, answer.content) == (202, before.content)
    assert "password_reset_mail_failed" in {record["event"] for record in records}
    assert EMAIL not in str(records)


@pytest.mark.usefixtures("login")
async def test_links_that_did_not_leave_hinder_nobody_when_mail_leaves_again(
    client: AsyncClient, feature: AuthFeature, mailbox: Outbox
) -> None:
    mailbox.failure = MailUnavailable()
    for _ in range(4):
        await _forget(client, feature)
    mailbox.failure = None

    assert (await _reset(client, await _token(client, feature, mailbox))).status_code == 204


@pytest.mark.usefixtures("login")
async def test_without_a_mail_server_nothing_is_made_that_could_set_a_password(
    client: AsyncClient, feature: AuthFeature, mailbox: Outbox, database: SavepointDatabase
) -> None:
    mailbox.is_configured = False
    assert (await _forget(client, feature)).status_code == 202

    async with database.superuser() as connection:
        assert (await connection.execute(text("SELECT count(*) FROM password_reset_links"))).scalar_one() == 0


@pytest.mark.usefixtures("login")
async def test_the_database_holds_no_token_but_its_hash(
    client: AsyncClient, feature: AuthFeature, mailbox: Outbox, database: SavepointDatabase
) -> None:
    token = await _token(client, feature, mailbox)

    async with database.superuser() as connection:
        row = (await connection.execute(text("SELECT password_reset_links::text FROM password_reset_links"))).scalar()
    assert token not in str(row)
    assert token not in str(await audited(database))


async def test_what_was_asked_for_and_done_is_noted(
    client: AsyncClient, feature: AuthFeature, mailbox: Outbox, database: SavepointDatabase, login: dict[str, Any]
) -> None:
    await _reset(client, await _token(client, feature, mailbox))

    user_id, org_id = login["user"]["user_id"], login["user"]["org_id"]
    [asked] = await audited(database, action="password.reset_requested")
    [done] = await audited(database, action="password.reset")
    assert (asked.org_id, asked.actor_id, asked.target_id, asked.detail) == (org_id, None, user_id, {"is_mailed": True})
    assert (done.org_id, done.actor_id, done.target_id, done.detail) == (org_id, user_id, user_id, {"by": "link"})


@pytest.mark.parametrize("token", ["unknown", "é", "x" * 512])
async def test_an_unknown_token_is_refused(client: AsyncClient, token: str) -> None:
    assert code_of(await _reset(client, token)) == (401, "invalid_reset")


@pytest.mark.parametrize(
    "body",
    [
        pytest.param({}, id="nothing"),
        pytest.param({"new_password": NEW}, id="no proof"),
        pytest.param({"new_password": NEW, "code": "K7QM3XPA"}, id="a code of nobody"),
        pytest.param({"new_password": NEW, "username": USERNAME}, id="no code"),
        pytest.param({"new_password": NEW, "token": "t", "code": "c", "username": USERNAME}, id="two proofs"),
        pytest.param({"new_password": NEW, "token": "t", "username": USERNAME}, id="a token and a name"),
        pytest.param({"new_password": "1234567", "token": "t"}, id="a short password"),
        pytest.param({"new_password": NEW, "token": "x" * 513}, id="a long token"),
    ],
)
async def test_bad_fields_are_refused(client: AsyncClient, body: dict[str, str]) -> None:
    assert code_of(await client.post("/auth/password/reset", json=body)) == (422, "invalid")


@pytest.mark.parametrize("body", [{}, {"email": EMAIL, "username": USERNAME}, {"email": "x" * 255}])
async def test_exactly_one_account_is_forgotten(client: AsyncClient, body: dict[str, str]) -> None:
    assert code_of(await client.post("/auth/password/forgot", json=body)) == (422, "invalid")
