"""What is left of a member who was deactivated or removed: no way in, and nothing personal."""

import re
from collections.abc import Iterator
from typing import Final
from uuid import UUID, uuid4

import pytest
from fastapi.routing import APIRoute, iter_route_contexts
from sqlalchemy import text

from bwenge.chat.models import Message
from bwenge.kit.http.security import declared_access
from bwenge.kit.identity import Role
from bwenge.kit.ids import new_id
from tests.support.application import Application, Person
from tests.support.databases import SavepointDatabase
from tests.support.feature_app import code_of
from tests.support.furnished import add_conversation

OF_MEMBERS: Final = frozenset({"members", "signed_in"})


def members_routes(application: Application) -> Iterator[tuple[str, str]]:
    """Method and path of every route that members call."""
    for context in iter_route_contexts(application.app.routes):
        route = context.original_route
        if isinstance(route, APIRoute) and {access.callers for access in declared_access(route.dependant)} & OF_MEMBERS:
            yield from ((method, context.path or "") for method in context.methods or ())


@pytest.fixture
async def owner(application: Application) -> Person:
    return await application.register()


@pytest.fixture
async def second(application: Application, owner: Person) -> Person:
    """Another owner, who may call whatever members may."""
    return await application.add_member(owner.org_id, Role.OWNER)


async def test_no_route_answers_a_deactivated_member(application: Application, owner: Person, second: Person) -> None:
    path = f"/orgs/{owner.org_id}/members/{second.user_id}"
    await application.client.patch(path, headers=owner.headers, json={"is_active": False})
    routes = list(members_routes(application))

    answers = {}
    for method, template in routes:
        address = re.sub(r"\{\w+\}", str(uuid4()), template.replace("{org_id}", str(owner.org_id)))
        answers[method, template] = await application.client.request(method, address, headers=second.headers)

    assert len(routes) > 20
    assert {route: answer.status_code for route, answer in answers.items() if answer.status_code != 401} == {}
    assert (await application.client.get("/users/me", headers=owner.headers)).status_code == 200


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


async def test_a_removed_member_is_answered_by_no_route(
    application: Application, owner: Person, second: Person
) -> None:
    await application.client.delete(f"/orgs/{owner.org_id}/members/{second.user_id}", headers=owner.headers)

    assert code_of(await application.client.get("/users/me", headers=second.headers)) == (401, "unauthenticated")
