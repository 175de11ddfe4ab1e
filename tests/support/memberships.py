"""A school with a member of each role, who call the routes of members, and what its plan and its mail do."""

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from httpx2 import AsyncClient, Response
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from bwenge.auth.models import Group, GroupMember, User
from bwenge.auth.tokens import AccessTokenIssuer
from bwenge.auth.wiring import AuthFeature
from bwenge.kit.db import Database
from bwenge.kit.identity import Principal, Role
from bwenge.kit.ids import new_id
from tests.support.feature_app import bearer
from tests.support.schools import Member

PASSWORD = "umuyaga-mwinshi"  # of throw-away accounts


@dataclass
class Plan:
    """A policy of seats that a test sets."""

    limit: int | None = None

    async def seats(self, session: AsyncSession, org_id: UUID) -> int | None:  # noqa: ARG002  # the policy's signature
        return self.limit


@dataclass(frozen=True)
class Mail:
    to: str
    subject: str
    text: str


@dataclass
class Outbox:
    """A mail server that keeps what it is given, unless it is down; off until a test turns it on."""

    is_configured: bool = False
    failure: Exception | None = None
    mails: list[Mail] = field(default_factory=list)

    async def send(self, *, to: str, subject: str, text: str) -> None:
        if self.failure is not None:
            raise self.failure
        self.mails.append(Mail(to, subject, text))


@dataclass(frozen=True, slots=True)
class School:
    """Groupe Scolaire Kimironko: `expert` teaches the class `group_id`, which `learner` attends."""

    database: Database
    feature: AuthFeature
    client: AsyncClient
    org_id: UUID
    owner: Member
    admin: Member
    expert: Member
    colleague: Member
    learner: Member
    group_id: UUID

    def by_role(self, role: Role) -> Member:
        return {Role.OWNER: self.owner, Role.ADMIN: self.admin, Role.EXPERT: self.expert, Role.USER: self.learner}[role]

    def path(self, rest: str = "") -> str:
        return f"/orgs/{self.org_id}{rest}"

    async def add(self, role: Role, *, name: str = "Member", username: str | None = None) -> Member:
        user = await self.feature.service.create_member(
            self.org_id, name=name, role=role, username=username or f"m.{new_id().hex}", password=PASSWORD
        )
        return as_member(self.feature, self.client, user)

    async def add_group(self, owner: Member, *learners: Member, name: str = "S2 B") -> UUID:
        group = Group(id=new_id(), org_id=self.org_id, name=name, owner_id=owner.principal.user_id)
        async with self.database.unit_of_work(self.org_id) as session:
            session.add(group)
            await session.flush()
            for learner in learners:
                session.add(GroupMember(group_id=group.id, user_id=learner.principal.user_id, org_id=self.org_id))
        return group.id

    async def invite(self, email: str, *, role: Role = Role.USER, by: Member | None = None) -> dict[str, Any]:
        answer = await (by or self.owner).post(self.path("/invite"), {"email": email, "role": role.value})
        assert answer.status_code == 201, answer.text
        invitation: dict[str, Any] = answer.json()
        return invitation

    async def make_link(self, by: Member | None = None, **fields: Any) -> dict[str, Any]:
        answer = await (by or self.expert).post(self.path("/join-links"), link_body(**fields))
        assert answer.status_code == 201, answer.text
        link: dict[str, Any] = answer.json()
        return link

    async def register(self, **fields: Any) -> Response:
        return await self.client.post("/auth/register", json={"name": "Keza", "password": PASSWORD, **fields})

    async def change(self, by: Member, target: Member, **changes: Any) -> Response:
        return await by.call("PATCH", self.path(f"/members/{target.principal.user_id}"), changes)

    async def remove(self, by: Member, target: Member) -> Response:
        return await by.delete(self.path(f"/members/{target.principal.user_id}"))

    def with_role(self, member: Member, role: Role) -> Member:
        """The same member with a token of another role, such as a refresh gives after a change of it."""
        return _signed_in(self.feature, self.client, replace(member.principal, role=role))

    async def group_names(self) -> list[str]:
        async with self.database.unit_of_work(self.org_id) as session:
            return list(await session.scalars(select(Group.name).where(Group.org_id == self.org_id)))

    async def audited(self) -> list[dict[str, Any]]:
        """Acts, newest first."""
        items: list[dict[str, Any]] = (await self.owner.get(self.path("/audit"))).json()["items"]
        return items


def link_body(**fields: Any) -> dict[str, Any]:
    """A valid body of POST /orgs/{org_id}/join-links; a change to None leaves the field out."""
    expires_at = (datetime.now(UTC) + timedelta(days=30)).isoformat()
    body = {"role": "user", "max_uses": 40, "expires_at": expires_at, **fields}
    return {name: value for name, value in body.items() if value is not None}


def as_member(feature: AuthFeature, client: AsyncClient, user: User) -> Member:
    principal = Principal(user_id=user.id, org_id=user.organization_id, role=Role(user.role))
    return _signed_in(feature, client, principal)


def _signed_in(feature: AuthFeature, client: AsyncClient, principal: Principal) -> Member:
    token = AccessTokenIssuer(feature.keys).issue(principal, family_id=new_id())
    return Member(principal, bearer(token), client)


async def open_school(database: Database, feature: AuthFeature, client: AsyncClient) -> School:
    mark = new_id().hex
    owner = await feature.service.register_organization(
        org_name="Groupe Scolaire Kimironko", name="Owner", email=f"owner@{mark}.example", password=PASSWORD
    )
    members = {
        name: await feature.service.create_member(
            owner.organization_id, name=name, role=role, username=f"{name}.{mark}", password=PASSWORD
        )
        for name, role in (
            ("admin", Role.ADMIN),
            ("expert", Role.EXPERT),
            ("colleague", Role.EXPERT),
            ("learner", Role.USER),
        )
    }
    group = Group(id=new_id(), org_id=owner.organization_id, name="S1 A", owner_id=members["expert"].id)
    async with database.unit_of_work(owner.organization_id) as session:
        session.add(group)
        await session.flush()
        session.add(GroupMember(group_id=group.id, user_id=members["learner"].id, org_id=owner.organization_id))
    signed_in = {name: as_member(feature, client, user) for name, user in members.items()}
    return School(
        database,
        feature,
        client,
        org_id=owner.organization_id,
        owner=as_member(feature, client, owner),
        group_id=group.id,
        **signed_in,
    )
