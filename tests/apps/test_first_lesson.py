"""A class behind one address: its pupils open their accounts by one link and sign in, within a minute."""

import asyncio
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import monotonic

from bwenge.kit.db import Database
from tests.support.application import PASSWORD, open_application

PUPILS = 40


async def test_forty_pupils_join_and_sign_in_within_a_minute(committed_database: Database, tmp_path: Path) -> None:
    async with open_application(committed_database, tmp_path, rate_limits=True) as application:
        owner = await application.register()
        link = await application.client.post(
            f"/orgs/{owner.org_id}/join-links",
            headers=owner.headers,
            json={"max_uses": PUPILS, "expires_at": (datetime.now(UTC) + timedelta(hours=1)).isoformat()},
        )
        token = link.json()["join_token"]

        async def open_account(number: int) -> list[int]:
            account = {"username": f"pupil.{number}", "password": PASSWORD}
            registered = await application.client.post(
                "/auth/register", json={"name": f"Pupil {number}", "join_token": token, **account}
            )
            logged_in = await application.client.post("/auth/login", json=account)
            return [registered.status_code, logged_in.status_code]

        began = monotonic()
        answers = await asyncio.gather(*(open_account(number) for number in range(PUPILS)))
        seconds = monotonic() - began

        late = await application.client.post(
            "/auth/register",
            json={"name": "Late", "join_token": token, "username": "pupil.late", "password": PASSWORD},
        )
    assert Counter(map(tuple, answers)) == {(201, 200): PUPILS}
    assert seconds < 60
    assert late.status_code == 422


async def test_without_a_token_an_address_registers_five_times_a_minute(
    committed_database: Database, tmp_path: Path
) -> None:
    async with open_application(committed_database, tmp_path, rate_limits=True) as application:
        answers = [
            await application.client.post(
                "/auth/register",
                json={"name": "N", "org_name": "S", "email": f"o{number}@x.rw", "password": PASSWORD},
            )
            for number in range(6)
        ]

    assert [answer.status_code for answer in answers] == [201] * 5 + [429]
    assert int(answers[-1].headers["retry-after"]) > 0


async def test_a_link_is_tried_a_hundred_times_a_minute(committed_database: Database, tmp_path: Path) -> None:
    body = {"name": "N", "username": "some.one", "password": PASSWORD}
    async with open_application(committed_database, tmp_path, rate_limits=True) as application:
        statuses = [
            (await application.client.post("/auth/register", json=body | {"join_token": token})).status_code
            for token in (*["guessed"] * 101, "another")
        ]

    assert statuses == [422] * 100 + [429, 422]
