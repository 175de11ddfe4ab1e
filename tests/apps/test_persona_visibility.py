"""Which personas each role sees, by the groups that they are in, through every door to a persona."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, Literal
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Engine, event
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from bwenge.chat.errors import PersonaUnavailable
from bwenge.chat.service import SocketRequest
from bwenge.chat.turn_records import Question
from bwenge.kit.errors import NotFound
from bwenge.kit.identity import Principal, Role
from bwenge.kit.ids import new_id
from tests.chat.conftest import served
from tests.support.application import Application, Person

Place = Literal["no group", "own group", "other group", "both groups"]
PLACES: Final[tuple[Place, ...]] = ("no group", "own group", "other group", "both groups")
ROLES: Final = tuple(Role)
SEEN: Final[Mapping[tuple[Role, Place], bool]] = {
    (role, place): role is not Role.USER or place != "other group" for role in ROLES for place in PLACES
}
"""The rule: only a learner is kept from a persona, and only from one that is in other groups alone."""


@dataclass
class World:
    """A school whose learner is in one of two groups, with a persona in each place."""

    application: Application
    people: dict[Role, Person]
    own: UUID
    other: UUID
    personas: dict[Place, UUID]

    @property
    def owner(self) -> Person:
        return self.people[Role.OWNER]

    async def move(self, persona_id: UUID, place: Place) -> None:
        for group_id, places in ((self.own, ("own group",)), (self.other, ("other group",))):
            if place in {*places, "both groups"}:
                await self.application.join(self.owner, group_id, "personas", persona_id=persona_id)

    async def get(self, person: Person, path: str) -> Any:
        return await self.application.client.get(path, headers=person.headers)

    async def post(self, person: Person, path: str, body: Mapping[str, Any]) -> Any:
        return await self.application.client.post(path, headers=person.headers, json=body)


@pytest.fixture
async def world(application: Application) -> AsyncIterator[World]:
    owner = await application.register()
    people = {Role.OWNER: owner}
    for role in (Role.USER, Role.EXPERT, Role.ADMIN):
        people[role] = await application.add_member(owner.org_id, role)
    own = await application.create_group(owner, learners=[people[Role.USER]])
    other = await application.create_group(owner, learners=[await application.add_member(owner.org_id, Role.USER)])
    personas: dict[Place, UUID] = {place: await application.create_persona(owner) for place in PLACES}
    world = World(application, people, own, other, personas)
    for place, persona_id in personas.items():
        await world.move(persona_id, place)
    yield world
    await application.platform.chat.drain()


def principal_of(person: Person) -> Principal:
    return Principal(user_id=person.user_id, org_id=person.org_id, role=person.role)


Door = Callable[[World, Person, UUID], Awaitable[bool]]


async def is_listed(world: World, person: Person, persona_id: UUID) -> bool:
    answer = await world.get(person, "/personas")
    return str(persona_id) in {item["persona_id"] for item in answer.json()["items"]}


async def is_found(world: World, person: Person, persona_id: UUID) -> bool:
    return _is_open(await world.get(person, f"/personas/{persona_id}"))


async def responds(world: World, person: Person, persona_id: UUID) -> bool:
    return _is_open(await world.post(person, "/ai/respond", _question(persona_id)))


async def opens_a_socket(world: World, person: Person, persona_id: UUID) -> bool:
    chat = world.application.platform.chat.service
    try:
        outlet = await chat.open(principal_of(person), SocketRequest(persona_id, session_id=None, detail="full"))
    except NotFound:
        return False
    chat.leave(outlet)
    return True


async def takes_a_question(world: World, person: Person, persona_id: UUID) -> bool:
    question = Question(session_id=new_id(), persona_id=persona_id, content="Hello", client_msg_id=new_id())
    try:
        await world.application.platform.chat.service.ask(principal_of(person), question)
    except PersonaUnavailable:
        return False
    return True


def _question(persona_id: UUID) -> dict[str, str]:
    return {"persona_id": str(persona_id), "user_message": "Hello"}


def _is_open(answer: Any) -> bool:
    assert answer.status_code in {200, 404}, answer.text
    return bool(answer.status_code == 200)


@pytest.mark.parametrize("door", [is_listed, is_found, responds, opens_a_socket, takes_a_question])
async def test_every_door_shows_a_role_the_same_personas(world: World, door: Door) -> None:
    shown = {
        (role, place): await door(world, world.people[role], world.personas[place])
        for role in ROLES
        for place in PLACES
    }

    assert shown == SEEN


async def test_a_hidden_persona_answers_exactly_as_an_unknown_one(world: World) -> None:
    learner = world.people[Role.USER]

    for hidden, unknown in (
        [await world.get(learner, f"/personas/{persona_id}") for persona_id in _hidden_and_unknown(world)],
        [await world.post(learner, "/ai/respond", _question(id_)) for id_ in _hidden_and_unknown(world)],
    ):
        assert (hidden.status_code, _body(hidden)) == (unknown.status_code, _body(unknown))
        assert hidden.status_code == 404


def _hidden_and_unknown(world: World) -> tuple[UUID, UUID]:
    return world.personas["other group"], uuid4()


def _body(answer: Any) -> dict[str, Any]:
    body: dict[str, Any] = answer.json()
    del body["request_id"]
    return body


async def test_a_list_is_filled_past_what_is_hidden(world: World) -> None:
    learner = world.people[Role.USER]

    first = (await world.get(learner, "/personas?limit=2")).json()
    second = (await world.get(learner, f"/personas?limit=2&cursor={first['next_cursor']}")).json()

    shown = [item["persona_id"] for page in (first, second) for item in page["items"]]
    assert shown == [str(world.personas[place]) for place in ("both groups", "own group", "no group")]
    assert second["next_cursor"] is None


async def test_a_list_takes_as_many_queries_whatever_the_number_of_personas(world: World) -> None:
    learner = world.people[Role.USER]
    with counted_queries() as few:
        await world.get(learner, "/personas")
    for place in PLACES:
        await world.move(await world.application.create_persona(world.owner), place)

    with counted_queries() as many:
        await world.get(learner, "/personas")

    assert len(few) == len(many)


@contextmanager
def counted_queries() -> Iterator[list[str]]:
    queries: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        queries.append(statement)

    event.listen(Engine, "before_cursor_execute", note)
    try:
        yield queries
    finally:
        event.remove(Engine, "before_cursor_execute", note)


async def test_leaving_the_group_closes_every_door_at_once(world: World) -> None:
    learner, persona_id = world.people[Role.USER], world.personas["own group"]
    path = f"/orgs/{learner.org_id}/groups/{world.own}/members/{learner.user_id}"

    assert (await world.application.client.delete(path, headers=world.owner.headers)).status_code == 204

    doors: tuple[Door, ...] = (is_listed, is_found, responds, opens_a_socket, takes_a_question)
    assert [await door(world, learner, persona_id) for door in doors] == [False] * 5


async def test_a_persona_that_leaves_its_last_group_is_seen_by_every_learner(world: World) -> None:
    learner, persona_id = world.people[Role.USER], world.personas["other group"]
    path = f"/orgs/{learner.org_id}/groups/{world.other}/personas/{persona_id}"

    assert (await world.application.client.delete(path, headers=world.owner.headers)).status_code == 204

    assert await is_listed(world, learner, persona_id)
    assert await is_found(world, learner, persona_id)


async def test_a_group_that_is_deleted_hides_nothing_any_more(world: World) -> None:
    learner = world.people[Role.USER]

    path = f"/orgs/{learner.org_id}/groups/{world.other}"
    assert (await world.application.client.delete(path, headers=world.owner.headers)).status_code == 204

    assert await is_found(world, learner, world.personas["other group"])


async def test_a_group_hides_nothing_from_another_organisation_s_learners(world: World) -> None:
    other_owner = await world.application.register()
    learner = await world.application.add_member(other_owner.org_id, Role.USER)
    persona_id = await world.application.create_persona(other_owner)

    assert await is_found(world, learner, persona_id)
    assert not await is_found(world, learner, world.personas["no group"])


async def test_a_socket_of_a_persona_that_moves_to_another_group_says_so_and_is_refused_afterwards(
    world: World,
) -> None:
    """As a socket of a persona that is deleted while it is open."""
    learner, persona_id = world.people[Role.USER], world.personas["no group"]
    async with served(world.application.app) as address:
        url = f"ws://{address}/ws/chat?persona_id="
        async with connect(f"{url}{persona_id}", additional_headers=learner.headers, proxy=None) as socket:
            await socket.recv()
            await world.move(persona_id, "other group")
            frame = {"type": "user_message", "content": "Hello", "client_msg_id": str(new_id())}
            await socket.send(json.dumps(frame))
            async with asyncio.timeout(10):
                refusal = json.loads(await socket.recv())

        refused = []
        for id_ in (persona_id, uuid4()):
            with pytest.raises(InvalidStatus) as failure:
                await connect(f"{url}{id_}", additional_headers=learner.headers, proxy=None)
            problem = json.loads(failure.value.response.body or b"{}")
            del problem["request_id"]
            refused.append((failure.value.response.status_code, problem))

    assert (refusal["type"], refusal["code"]) == ("error", "persona_unavailable")
    assert refused[0] == refused[1]
    assert refused[0][0] == 404
