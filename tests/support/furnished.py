"""Organisations with one of everything that has an id."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

from bwenge.chat.models import Conversation
from bwenge.kit.identity import Role
from bwenge.kit.ids import new_id
from tests.support.application import Application, Person

TEXT: Final = b"The fare from Kigali to Huye is 3,200 francs. A percentage is a fraction of one hundred."


@dataclass(frozen=True)
class FurnishedSchool:
    """A member of each role, an API key of each, and one id of each kind, by the kind's name."""

    members: dict[Role, Person]
    keys: dict[Role, Person]
    ids: dict[str, UUID]

    @property
    def owner(self) -> Person:
        return self.members[Role.OWNER]

    @property
    def callers(self) -> list[tuple[Role, bool, Person]]:
        """Role, whether it is an API key, and who."""
        return [
            *((role, False, person) for role, person in self.members.items()),
            *((role, True, person) for role, person in self.keys.items()),
        ]


async def furnish(application: Application) -> FurnishedSchool:
    owner = await application.register()
    others = {role: await application.add_member(owner.org_id, role) for role in Role if role is not Role.OWNER}
    persona_id = await application.create_persona(owner)
    ids = {
        "org": owner.org_id,
        "user": others[Role.USER].user_id,
        "owner": others[Role.EXPERT].user_id,
        "persona": persona_id,
        "source": await application.add_document(owner, persona_id, TEXT),
        "group": await application.create_group(owner, learners=[others[Role.USER]], personas=[persona_id]),
        "session": await add_conversation(application, owner, persona_id),
    }
    keys = {role: await application.make_key(owner, role) for role in Role}
    return FurnishedSchool(others | {Role.OWNER: owner}, keys, ids | await _add_offers(application, owner))


async def add_conversation(application: Application, owner: Person, persona_id: UUID) -> UUID:
    conversation = Conversation(
        id=new_id(), org_id=owner.org_id, user_id=owner.user_id, persona_id=persona_id, title="The fare"
    )
    async with application.platform.resources.database.unit_of_work(owner.org_id) as session:
        session.add(conversation)
    return conversation.id


async def _add_offers(application: Application, owner: Person) -> dict[str, UUID]:
    """An invitation, a join link, the last API key, and an export that waits for a worker."""
    org = f"/orgs/{owner.org_id}"
    invitation = await application.client.post(
        f"{org}/invite", headers=owner.headers, json={"email": f"{new_id().hex}@school.example", "role": "user"}
    )
    link = await application.client.post(
        f"{org}/join-links",
        headers=owner.headers,
        json={"max_uses": 1, "expires_at": (datetime.now(UTC) + timedelta(days=1)).isoformat()},
    )
    keys = await application.client.get(f"{org}/api-keys?limit=1", headers=owner.headers)
    export = await application.client.post(f"{org}/export", headers=owner.headers)
    job_id = UUID(export.json()["job_id"])
    return {
        "invite": UUID(invitation.json()["invite_id"]),
        "join_link": UUID(link.json()["join_link_id"]),
        "key": UUID(keys.json()["items"][0]["key_id"]),
        "job": job_id,
        "export": job_id,
    }
