"""Who reads what was said in whose session, and how much is being said in an organisation."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import text

from bwenge.chat.models import Conversation, Message, Turn
from bwenge.kit.identity import Role
from bwenge.kit.ids import new_id
from tests.support.application import Application, Person
from tests.support.databases import SavepointDatabase

RUNNING = "running"


@dataclass(frozen=True)
class School:
    application: Application
    owner: Person
    admin: Person
    teacher: Person
    colleague: Person
    learner: Person
    classmate: Person
    persona_id: UUID
    group_id: UUID
    """The teacher's, with the learner in it."""

    async def get(self, person: Person, path: str) -> Any:
        return await self.application.client.get(path, headers=person.headers)

    async def status(self, person: Person, session_id: UUID) -> int:
        status: int = (await self.get(person, f"/sessions/{session_id}/messages")).status_code
        return status

    async def reads(self) -> list[tuple[str, str, dict[str, Any]]]:
        """Of the audit log: who read which session, newest first."""
        entries = (await self.get(self.owner, f"/orgs/{self.owner.org_id}/audit?limit=100")).json()["items"]
        return [
            (entry["actor_id"], entry["target_id"], entry["detail"])
            for entry in entries
            if entry["action"] == "session.read"
        ]

    async def stats(self) -> dict[str, Any]:
        answer = await self.get(self.admin, f"/orgs/{self.owner.org_id}/sessions/stats")
        assert answer.status_code == 200, answer.text
        stats: dict[str, Any] = answer.json()
        return stats

    async def talk(
        self, person: Person, *at: datetime, persona_id: UUID | None = None, state: str = "finished"
    ) -> UUID:
        """A session with a message at each of the times, the first of which began a turn."""
        conversation = Conversation(
            id=new_id(),
            org_id=person.org_id,
            user_id=person.user_id,
            persona_id=persona_id or self.persona_id,
            title="Light",
            message_count=len(at),
        )
        messages = [
            Message(
                id=new_id(),
                org_id=person.org_id,
                conversation_id=conversation.id,
                sender="user",
                content="What is light?",
                details={},
                created_at=moment,
            )
            for moment in at
        ]
        turn = Turn(
            id=new_id(),
            org_id=person.org_id,
            conversation_id=conversation.id,
            question_id=messages[0].id,
            state=state,
            owner="test",
            lease_until=datetime.now(UTC) + timedelta(hours=1),
            first_seq=1,
            reserved_seqs=10,
        )
        async with self.application.platform.resources.database.unit_of_work(person.org_id) as session:
            for rows in ([conversation], messages, [turn]):
                session.add_all(rows)
                await session.flush()
        return conversation.id


@pytest.fixture
async def school(application: Application) -> School:
    owner = await application.register()
    teacher = await application.add_member(owner.org_id, Role.EXPERT)
    learner = await application.add_member(owner.org_id, Role.USER)
    return School(
        application,
        owner=owner,
        admin=await application.add_member(owner.org_id, Role.ADMIN),
        teacher=teacher,
        colleague=await application.add_member(owner.org_id, Role.EXPERT),
        learner=learner,
        classmate=await application.add_member(owner.org_id, Role.USER),
        persona_id=await application.create_persona(owner),
        group_id=await application.create_group(teacher, learners=[learner]),
    )


def now() -> datetime:
    return datetime.now(UTC)


async def test_own_sessions_those_of_own_learners_and_for_administrators_all_are_read(school: School) -> None:
    people = ("owner", "admin", "teacher", "colleague", "learner", "classmate")
    sessions = {name: await school.talk(getattr(school, name), now()) for name in people}

    readable = {
        reader: {
            name
            for name, session_id in sessions.items()
            if await school.status(getattr(school, reader), session_id) == 200
        }
        for reader in people
    }

    assert readable == {
        "owner": set(people),
        "admin": set(people),
        "teacher": {"teacher", "learner"},
        "colleague": {"colleague"},
        "learner": {"learner"},
        "classmate": {"classmate"},
    }


async def test_reading_another_s_session_is_in_the_audit_log_and_one_s_own_is_not(school: School) -> None:
    session_id = await school.talk(school.learner, now())

    for reader in (school.learner, school.teacher, school.classmate, school.colleague, school.admin):
        await school.get(reader, f"/sessions/{session_id}/messages")

    detail = {"user_id": str(school.learner.user_id)}
    assert await school.reads() == [
        (str(school.admin.user_id), str(session_id), detail),
        (str(school.teacher.user_id), str(session_id), detail),
    ]


async def test_what_may_not_be_read_answers_as_unknown_and_foreign(school: School) -> None:
    session_id = await school.talk(school.classmate, now())
    foreign_owner = await school.application.register()
    foreign_persona = await school.application.create_persona(foreign_owner)
    foreign = await school.talk(foreign_owner, now(), persona_id=foreign_persona)

    for reader in (school.learner, school.teacher):
        answers = [await school.get(reader, f"/sessions/{id_}/messages") for id_ in (session_id, foreign, uuid4())]
        problems = [{**answer.json(), "request_id": ""} for answer in answers]
        assert [answer.status_code for answer in answers] == [404] * 3
        assert problems == [problems[0]] * 3
    assert await school.status(school.admin, foreign) == 404
    assert await school.reads() == []


async def test_an_erased_session_is_read_by_nobody(school: School) -> None:
    session_id = await school.talk(school.learner, now())

    deleted = await school.application.client.delete(f"/sessions/{session_id}", headers=school.learner.headers)

    assert deleted.status_code == 204
    for reader in (school.learner, school.teacher, school.admin):
        assert await school.status(reader, session_id) == 404


async def test_a_teacher_reads_no_more_when_the_learner_leaves_or_the_group_is_given_away(school: School) -> None:
    session_id = await school.talk(school.learner, now())
    group = f"/orgs/{school.owner.org_id}/groups/{school.group_id}"
    client, headers = school.application.client, school.admin.headers

    await client.patch(group, headers=headers, json={"owner_id": str(school.colleague.user_id)})
    given = [await school.status(reader, session_id) for reader in (school.teacher, school.colleague)]
    await client.delete(f"{group}/members/{school.learner.user_id}", headers=headers)

    assert given == [404, 200]
    assert await school.status(school.colleague, session_id) == 404


async def test_a_learner_who_became_a_colleague_is_not_read_by_the_teacher(
    school: School, database: SavepointDatabase
) -> None:
    session_id = await school.talk(school.learner, now())

    async with database.superuser() as connection:
        await connection.execute(
            text("UPDATE users SET role = 'expert' WHERE id = :id"), {"id": school.learner.user_id}
        )

    assert await school.status(school.teacher, session_id) == 404


async def test_statistics_count_the_last_day_s_sessions_and_today_s_messages(
    school: School, database: SavepointDatabase
) -> None:
    zone = ZoneInfo("Pacific/Kiritimati")
    async with database.superuser() as connection:
        await connection.execute(
            text("UPDATE organizations SET time_zone = :zone WHERE id = :id"),
            {"zone": zone.key, "id": school.owner.org_id},
        )
    moment = now()
    today = moment.astimezone(zone).replace(hour=0, minute=0, second=0, microsecond=0)
    other_persona = await school.application.create_persona(school.owner, name="Keza")
    await school.talk(school.learner, today - timedelta(seconds=1), today, moment)
    await school.talk(school.classmate, moment, persona_id=other_persona, state=RUNNING)
    await school.talk(school.classmate, moment - timedelta(hours=23, minutes=59))
    await school.talk(school.learner, moment - timedelta(hours=25))

    stats = await school.stats()

    last = moment - timedelta(hours=23, minutes=59) >= today
    assert stats == {
        "active_sessions": 3,
        "active_turns": 1,
        "messages_today": 3 + last,
        "by_persona": [
            {"persona_id": str(school.persona_id), "name": "Gabriel", "sessions": 2, "messages": 2 + last},
            {"persona_id": str(other_persona), "name": "Keza", "sessions": 1, "messages": 1},
        ],
    }


async def test_statistics_are_the_organisation_s_own_and_name_no_deleted_persona(school: School) -> None:
    foreign_owner = await school.application.register()
    foreign_persona = await school.application.create_persona(foreign_owner)
    await school.talk(foreign_owner, now(), persona_id=foreign_persona, state=RUNNING)
    await school.talk(school.learner, now())
    await school.application.client.delete(f"/personas/{school.persona_id}", headers=school.owner.headers)

    stats = await school.stats()

    assert (stats["active_sessions"], stats["active_turns"]) == (1, 0)
    assert [(item["persona_id"], item["name"]) for item in stats["by_persona"]] == [(str(school.persona_id), None)]


async def test_statistics_of_a_silent_organisation_are_zero(school: School) -> None:
    assert await school.stats() == {"active_sessions": 0, "active_turns": 0, "messages_today": 0, "by_persona": []}


async def test_statistics_are_for_administrators(school: School) -> None:
    path = f"/orgs/{school.owner.org_id}/sessions/stats"

    statuses = [
        (await school.get(person, path)).status_code
        for person in (school.owner, school.admin, school.teacher, school.learner)
    ]

    assert statuses == [200, 200, 403, 403]
