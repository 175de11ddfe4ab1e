"""POST /ai/respond costs one message, taken before the model is asked and given back where it fails without a word."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from uuid import UUID, uuid4

import httpx2
import pytest

from bwenge.kit.errors import Unavailable
from bwenge.kit.identity import Principal
from bwenge.persona.contract import Reply, ReplyAnimation, ReplyDelta, ReplyEvent, ReplyRequest
from tests.support.application import Application, Person
from tests.support.feature_app import code_of
from tests.support.quotas import acts, drifted, leave

STREAM = "text/event-stream"
JSON = "application/json"
ANSWER = Reply("It is.", citations=(), grounded=False, model="m", language="en", animation_hint="explaining")
BROKEN = Reply(
    "It", (), grounded=False, model="m", language="en", animation_hint="idle", finish_reason="error"
)  # as replies tell of a model whose stream broke


class ScriptedReplies:
    """Gives the items one by one, and raises those that are exceptions; counts how often it was asked."""

    def __init__(self, *items: ReplyEvent | Exception) -> None:
        self.items = items
        self.asked = 0

    async def stream(self, request: ReplyRequest) -> AsyncGenerator[ReplyEvent, None]:
        del request
        self.asked += 1
        for item in self.items:
            if isinstance(item, Exception):
                raise item
            yield item


@pytest.fixture
async def owner(application: Application) -> Person:
    return await application.register()


@pytest.fixture
async def persona_id(application: Application, owner: Person) -> UUID:
    return await application.create_persona(owner)


def script(application: Application, *items: ReplyEvent | Exception) -> ScriptedReplies:
    replies = ScriptedReplies(*items)
    application.platform.answers._replies = replies
    return replies


async def respond(application: Application, person: Person, persona_id: UUID, *, accept: str = JSON) -> httpx2.Response:
    body = {"persona_id": str(persona_id), "user_message": "What is the fare?"}
    return await application.client.post("/ai/respond", headers=person.headers | {"Accept": accept}, json=body)


async def states(application: Application, org_id: UUID) -> list[tuple[str, int, str]]:
    database = application.platform.resources.database
    assert await drifted(database) == []
    return [(act["kind"], act["amount"], act["state"]) for act in await acts(database, org_id)]


@pytest.mark.parametrize("accept", [JSON, STREAM])
async def test_an_answer_is_one_message(application: Application, owner: Person, persona_id: UUID, accept: str) -> None:
    script(application, ReplyDelta("It is."), ANSWER)
    for _ in range(2):
        assert (await respond(application, owner, persona_id, accept=accept)).status_code == 200
    assert await states(application, owner.org_id) == [("messages", 1, "settled")] * 2


@pytest.mark.parametrize("accept", [JSON, STREAM])
async def test_a_used_up_plan_is_refused_with_402_before_the_model_is_asked(
    application: Application, owner: Person, persona_id: UUID, accept: str
) -> None:
    replies = script(application, ReplyDelta("It is."), ANSWER)
    await leave(application.platform.resources.database, owner.org_id, 1)
    assert (await respond(application, owner, persona_id, accept=accept)).status_code == 200

    refusal = await respond(application, owner, persona_id, accept=accept)

    assert code_of(refusal) == (402, "quota_exhausted")
    assert refusal.json()["detail"].endswith("ask an administrator of your organisation to choose a larger plan")
    assert replies.asked == 1
    assert await states(application, owner.org_id) == [("messages", 1, "settled")]


@pytest.mark.parametrize(
    ("items", "accept", "state"),
    [
        ((Unavailable(),), JSON, "released"),
        ((Unavailable(),), STREAM, "released"),
        ((ReplyAnimation("thinking"), Unavailable()), STREAM, "released"),
        ((ReplyDelta("It"), Unavailable()), STREAM, "settled"),
        ((ReplyDelta("It"), Unavailable()), JSON, "released"),
        ((BROKEN,), STREAM, "released"),
        ((ReplyDelta("It"), BROKEN), STREAM, "settled"),
        ((ReplyDelta("It"), BROKEN), JSON, "released"),
    ],
)
async def test_a_failure_gives_the_message_back_if_nobody_read_a_word(
    application: Application,
    owner: Person,
    persona_id: UUID,
    items: tuple[ReplyEvent | Exception, ...],
    accept: str,
    state: str,
) -> None:
    script(application, *items)
    await respond(application, owner, persona_id, accept=accept)
    assert await states(application, owner.org_id) == [("messages", 1, state)]


async def test_a_persona_that_is_not_there_costs_nothing(application: Application, owner: Person) -> None:
    assert code_of(await respond(application, owner, uuid4())) == (404, "not_found")
    assert await states(application, owner.org_id) == []


@pytest.mark.parametrize(("read", "state"), [(1, "released"), (2, "settled"), (3, "settled")])
async def test_a_reader_who_goes_has_used_the_message_if_there_was_a_word(
    application: Application, owner: Person, persona_id: UUID, read: int, state: str
) -> None:
    script(application, ReplyAnimation("thinking"), ReplyDelta("It "), ANSWER)
    principal = Principal(user_id=owner.user_id, org_id=owner.org_id, role=owner.role)
    request = ReplyRequest(org_id=owner.org_id, persona_id=persona_id, question="What is the fare?")
    async with aclosing(application.platform.answers.stream(principal, request)) as events:
        for _ in range(read):
            await anext(events)
    assert await states(application, owner.org_id) == [("messages", 1, state)]
