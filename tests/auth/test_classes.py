"""What groups say to the other features, against a model of them in plain sets."""

import random
from dataclasses import dataclass, field
from uuid import UUID

import pytest

from bwenge.auth.classes import Classrooms
from bwenge.auth.models import Group, GroupMember, GroupPersona, Organization, User
from bwenge.auth.tenants import TenantDirectory
from bwenge.kit.errors import NotFound
from bwenge.kit.identity import Principal, Role
from bwenge.kit.ids import new_id
from tests.support.databases import SavepointDatabase


@dataclass
class School:
    """A random one: some learners and experts, in some groups with some personas."""

    org_id: UUID = field(default_factory=new_id)
    people: dict[UUID, Role] = field(default_factory=dict)
    owners: dict[UUID, UUID] = field(default_factory=dict)
    learners: dict[UUID, set[UUID]] = field(default_factory=dict)
    personas: dict[UUID, set[UUID]] = field(default_factory=dict)
    all_personas: list[UUID] = field(default_factory=list)

    @classmethod
    def of(cls, chance: random.Random) -> "School":
        school = cls()
        school.people = {new_id(): role for role in (Role.USER,) * 3 + (Role.EXPERT,) * 2 + (Role.ADMIN,)}
        school.all_personas = [new_id() for _ in range(5)]
        people = list(school.people)
        for _ in range(chance.randrange(5)):
            group_id = new_id()
            # Whoever was promoted or demoted after joining is in places where nobody would be put today.
            school.owners[group_id] = chance.choice(people)
            school.learners[group_id] = set(chance.sample(people, chance.randrange(4)))
            school.personas[group_id] = set(chance.sample(school.all_personas, chance.randrange(4)))
        return school

    def hidden(self, user_id: UUID) -> set[UUID]:
        if self.people[user_id] is not Role.USER:
            return set()
        own = {
            persona_id
            for group_id, who in self.learners.items()
            if user_id in who
            for persona_id in self.personas[group_id]
        }
        return set().union(*self.personas.values()) - own

    def teaches(self, user_id: UUID, learner_id: UUID) -> bool:
        shared = any(self.owners[group_id] == user_id and learner_id in who for group_id, who in self.learners.items())
        return shared and self.people[user_id] is not Role.USER and self.people[learner_id] is Role.USER

    def principal(self, user_id: UUID) -> Principal:
        return Principal(user_id=user_id, org_id=self.org_id, role=self.people[user_id])

    async def store(self, database: SavepointDatabase) -> None:
        org = {"org_id": self.org_id}
        layers = (
            [
                User(id=id_, name="Keza", username=id_.hex, password_hash="-", role=role.value, **org)
                for id_, role in self.people.items()
            ],
            [Group(id=id_, name="S2", owner_id=owner_id, **org) for id_, owner_id in self.owners.items()],
            [GroupMember(group_id=id_, user_id=one, **org) for id_, who in self.learners.items() for one in who],
            [
                GroupPersona(group_id=id_, persona_id=one, **org)
                for id_, which in self.personas.items()
                for one in which
            ],
        )
        async with database.unit_of_work(self.org_id) as session:
            session.add(Organization(id=self.org_id, name="Groupe Scolaire Kimironko"))
            await session.flush()
            for rows in layers:
                session.add_all(rows)
                await session.flush()


@pytest.mark.parametrize("seed", range(12))
async def test_what_is_hidden_and_who_teaches_whom_follows_from_the_groups(
    database: SavepointDatabase, seed: int
) -> None:
    chance, classes = random.Random(seed), Classrooms()  # noqa: S311  # cases that a failure repeats
    school, neighbour = School.of(chance), School.of(chance)
    for one in (school, neighbour):
        await one.store(database)

    async with database.unit_of_work(school.org_id) as session:
        for user_id in school.people:
            principal = school.principal(user_id)
            hidden = await classes.hidden_personas(session, principal)
            assert hidden == school.hidden(user_id)
            for persona_id in (*school.all_personas, *neighbour.all_personas):
                among = await classes.hidden_personas(session, principal, among={persona_id})
                assert among == hidden & {persona_id}
            for other in (*school.people, *neighbour.people):
                is_taught = other in school.people and school.teaches(user_id, other)
                assert await classes.teaches(session, principal, other) == is_taught


async def test_no_persona_is_among_none(database: SavepointDatabase) -> None:
    school = School.of(random.Random(1))  # noqa: S311  # any case will do
    await school.store(database)

    async with database.unit_of_work(school.org_id) as session:
        for user_id in school.people:
            assert await Classrooms().hidden_personas(session, school.principal(user_id), among=()) == frozenset()


async def test_the_time_zone_is_the_organisation_s(database: SavepointDatabase, org_id: UUID) -> None:
    async with database.unit_of_work(org_id) as session:
        assert str(await TenantDirectory().time_zone(session, org_id)) == "Africa/Kigali"
        with pytest.raises(NotFound):
            await TenantDirectory().time_zone(session, new_id())
