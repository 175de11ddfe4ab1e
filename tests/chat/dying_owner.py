"""A process that begins an answer and waits to be killed: `python -m tests.chat.dying_owner URL ORG USER PERSONA`.

It prints the session's id as JSON once the first piece of the answer was published.
"""

import asyncio
import json
import sys
from uuid import UUID

from sqlalchemy.engine import make_url

from bwenge.analytics.service import EventLog
from bwenge.chat.service import SocketRequest
from bwenge.chat.settings import ChatSettings
from bwenge.chat.turn_records import Question
from bwenge.chat.wiring import build
from bwenge.kit.db import Database
from bwenge.kit.identity import Principal, Role
from bwenge.kit.ids import new_id
from bwenge.migrations import metadata
from bwenge.persona.contract import ReplyDelta
from tests.chat.scripted import ActiveMembers, Gate, Links, PersonaCards, ScriptedReplies
from tests.support.databases import role_urls
from tests.support.quotas import plan_quotas

TABLES = metadata.metadata
"""Every feature's tables, to which those of chat refer."""


async def begin_and_wait(url: str, principal: Principal, persona_id: UUID) -> None:
    gate = Gate()
    feature = build(
        Database(role_urls(make_url(url))),
        replies=ScriptedReplies([ReplyDelta("Plants "), gate]),
        personas=PersonaCards(),
        members=ActiveMembers(),
        events=EventLog(),
        links=Links(),
        quotas=plan_quotas(),
        settings=ChatSettings(lease_seconds=60),
    )
    outlet = await feature.service.open(principal, SocketRequest(persona_id=persona_id, session_id=None, detail="full"))
    question = Question(
        session_id=outlet.session_id, persona_id=persona_id, content="What is it?", client_msg_id=new_id()
    )
    await feature.service.ask(principal, question)
    await gate.reached.wait()
    sys.stdout.write(json.dumps({"session_id": str(outlet.session_id)}) + "\n")
    sys.stdout.flush()
    await gate.opened.wait()


if __name__ == "__main__":
    database_url, org_id, user_id, persona_id = sys.argv[1:]
    learner = Principal(user_id=UUID(user_id), org_id=UUID(org_id), role=Role.USER)
    asyncio.run(begin_and_wait(database_url, learner, UUID(persona_id)))
