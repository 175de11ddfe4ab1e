"""What is left of a member who was deactivated or removed: no way in, and nothing personal."""

import asyncio
import re
from typing import Final
from uuid import UUID, uuid4

import pytest
from fastapi.dependencies.models import Dependant
from fastapi.security import HTTPBearer
from sqlalchemy import text

from bwenge.chat.models import Message
from bwenge.chat.turn_records import Question
from bwenge.kit.db import Database
from bwenge.kit.http.security import declared_access
from bwenge.kit.identity import Principal, Role
from bwenge.kit.ids import new_id
from tests.support.application import Application, Person
from tests.support.databases import SavepointDatabase
from tests.support.furnished import add_conversation
from tests.support.routes import Route, routes_of

OF_MEMBERS: Final = frozenset({"members", "signed_in", "holder"})
LEAVING: Final = ("POST", "/auth/logout")
"""It takes the token of whoever wants its session ended, which opens nothing."""


def takes_token(dependant: Dependant) -> bool:
    return isinstance(dependant.call, HTTPBearer) or any(map(takes_token, dependant.dependencies))


def members_routes(application: Application) -> list[Route]:
    """Every route that a member's token opens, also where other proof does."""
    return [
        route
        for route in routes_of(application.app)
        if {access.callers for access in declared_access(route.dependant)} & OF_MEMBERS
        and takes_token(route.dependant)
        and route.key != LEAVING
    ]


@pytest.fixture
async def owner(application: Application) -> Person:
    return await application.register()


@pytest.fixture
async def second(application: Application, owner: Person) -> Person:
    """Another owner, who may call whatever members may."""
    return await application.add_member(owner.org_id, Role.OWNER)


@pytest.mark.parametrize("change", [{"is_active": False}, {"role": "expert"}])
async def test_no_route_answers_an_old_token_of_a_deactivated_or_demoted_member(
    application: Application, owner: Person, second: Person, change: dict[str, object]
) -> None:
    path = f"/orgs/{owner.org_id}/members/{second.user_id}"
    changed = await application.client.patch(path, headers=owner.headers, json=change)
    assert changed.status_code == 200
    await _is_refused_everywhere(application, second)
    assert (await application.client.get("/users/me", headers=owner.headers)).status_code == 200


async def test_no_route_answers_a_removed_member(application: Application, owner: Person, second: Person) -> None:
    await application.client.delete(f"/orgs/{owner.org_id}/members/{second.user_id}", headers=owner.headers)
    await _is_refused_everywhere(application, second)


async def test_no_route_answers_an_api_key_that_was_deleted(application: Application, owner: Person) -> None:
    key = await application.make_key(owner)
    keys = await application.client.get(f"/orgs/{owner.org_id}/api-keys", headers=owner.headers)
    [made] = keys.json()["items"]
    await application.client.delete(f"/orgs/{owner.org_id}/api-keys/{made['key_id']}", headers=owner.headers)
    await _is_refused_everywhere(application, key)


async def _is_refused_everywhere(application: Application, person: Person) -> None:
    routes = members_routes(application)
    answers = {}
    for route in routes:
        address = re.sub(r"\{\w+\}", str(uuid4()), route.path.replace("{org_id}", str(person.org_id)))
        answers[route.key] = await application.client.request(route.method, address, headers=person.headers)
    assert len(routes) > 20
    assert ("HEAD", "/knowledge/{source_id}/file") in answers
    assert {key: answer.status_code for key, answer in answers.items() if answer.status_code != 401} == {}


async def test_a_removed_members_conversations_are_erased_and_personas_stay(
    application: Application, owner: Person, second: Person, database: SavepointDatabase
) -> None:
    persona_id = await application.create_persona(second)
    kept_id, erased_id = [await add_conversation(application, person, persona_id) for person in (owner, second)]
    for conversation_id in (kept_id, erased_id):
        await _say(application, owner.org_id, conversation_id)

    removed = await application.client.delete(f"/orgs/{owner.org_id}/members/{second.user_id}", headers=owner.headers)

    assert removed.status_code == 204
    async with database.superuser() as connection:
        kept = await connection.execute(text("SELECT conversation_id FROM messages"))
        titles = await connection.execute(
            text("SELECT title FROM conversations WHERE user_id = :id"), {"id": second.user_id}
        )
        tokens = await connection.scalar(
            text("SELECT count(*) FROM refresh_tokens WHERE user_id = :id"), {"id": second.user_id}
        )
        user = (await connection.execute(text("SELECT * FROM users WHERE id = :id"), {"id": second.user_id})).mappings()
        row = dict(user.one())
    assert (list(kept.scalars()), list(titles.scalars()), tokens) == ([kept_id], [""], 0)
    assert (row["name"], row["email"], row["password_hash"], row["is_active"]) == ("Former member", None, "", False)
    persona = await application.client.get(f"/personas/{persona_id}", headers=owner.headers)
    assert persona.status_code == 200


async def _say(application: Application, org_id: UUID, conversation_id: UUID) -> None:
    async with application.platform.resources.database.unit_of_work(org_id) as session:
        session.add(
            Message(
                id=new_id(),
                org_id=org_id,
                conversation_id=conversation_id,
                sender="user",
                content="What is the fare?",
                details={},
            )
        )


async def test_a_first_question_beside_its_askers_removal_leaves_nothing_behind(
    committed_application: Application, committed_database: Database
) -> None:
    application = committed_application
    owner = await application.register()
    persona_id = await application.create_persona(owner)
    for _ in range(8):
        learner = await application.add_member(owner.org_id, Role.USER)
        asker = Principal(user_id=learner.user_id, org_id=learner.org_id, role=Role.USER)
        question = Question(session_id=new_id(), persona_id=persona_id, content="Hello", client_msg_id=new_id())
        path = f"/orgs/{owner.org_id}/members/{learner.user_id}"
        removed, _ = await asyncio.gather(
            application.client.delete(path, headers=owner.headers),
            application.platform.chat.service.ask(asker, question),
            return_exceptions=True,
        )
        assert not isinstance(removed, BaseException)
        assert removed.status_code == 204
    await application.platform.chat.drain()
    async with committed_database.unit_of_work(owner.org_id) as session:
        assert await session.scalar(text("SELECT count(*) FROM messages")) == 0
        open_ones = text("SELECT count(*) FROM conversations WHERE deleted_at IS NULL OR title <> ''")
        assert await session.scalar(open_ones) == 0
