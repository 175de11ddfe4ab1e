"""What other features ask of personas, and writes at the same moment."""

import asyncio
from uuid import UUID

import pytest

from bwenge.kit.errors import Unauthenticated
from bwenge.kit.ids import new_id
from bwenge.persona.contract import PersonaCard
from bwenge.persona.errors import NotOwnPersona, PersonaNotFound
from bwenge.persona.profile import PersonaProfile
from tests.support.schools import PERSONA, Member, PersonaAPI, School


async def _card(api: PersonaAPI, member: Member, persona_id: str) -> PersonaCard:
    reader = member.principal
    async with api.database.unit_of_work(reader.org_id) as session:
        return await api.personas.card(session, reader, UUID(persona_id))


async def _require(api: PersonaAPI, member: Member, persona_id: str, *, write: bool) -> None:
    async with api.database.unit_of_work(member.principal.org_id) as session:
        await api.personas.require(session, member.principal, UUID(persona_id), write=write)


async def test_a_card_has_what_a_conversation_needs(api: PersonaAPI, school: School) -> None:
    made = await school.expert.make_persona(is_active=False)

    assert await _card(api, school.learner, made["persona_id"]) == PersonaCard(
        persona_id=UUID(made["persona_id"]), name="Mwalimu Keza", is_active=False, settings=PERSONA["settings"]
    )


async def test_there_is_no_card_of_an_unknown_foreign_or_deleted_persona(
    api: PersonaAPI, school: School, other_school: School
) -> None:
    deleted = await school.expert.make_persona()
    await school.expert.delete(f"/personas/{deleted['persona_id']}")
    foreign = await other_school.expert.make_persona()

    for persona_id in (str(new_id()), foreign["persona_id"], deleted["persona_id"]):
        with pytest.raises(PersonaNotFound):
            await _card(api, school.learner, persona_id)


async def test_a_profile_is_what_answers_are_made_from(api: PersonaAPI, school: School) -> None:
    made = await school.expert.make_persona()

    assert await api.personas.load(school.org_id, UUID(made["persona_id"])) == PersonaProfile(
        name="Mwalimu Keza",
        description="Biology, senior two",
        tone=PERSONA["tone"],
        guidelines=("Use examples from Rwanda.",),
        sample_prompts=("What is photosynthesis?",),
        safety_rules=("No medical advice.",),
        settings=PERSONA["settings"],
    )


async def test_there_is_no_profile_of_an_unknown_foreign_deleted_or_inactive_persona(
    api: PersonaAPI, school: School, other_school: School
) -> None:
    deleted = await school.expert.make_persona()
    await school.expert.delete(f"/personas/{deleted['persona_id']}")
    foreign = await other_school.expert.make_persona()
    inactive = await school.expert.make_persona(is_active=False)

    for persona_id in (str(new_id()), foreign["persona_id"], deleted["persona_id"], inactive["persona_id"]):
        with pytest.raises(PersonaNotFound):
            await api.personas.load(school.org_id, UUID(persona_id))


@pytest.mark.parametrize("reader", ["owner", "admin", "expert", "colleague", "learner"])
async def test_every_member_may_use_a_persona(api: PersonaAPI, school: School, reader: str) -> None:
    made = await school.expert.make_persona()

    await _require(api, getattr(school, reader), made["persona_id"], write=False)


@pytest.mark.parametrize("writer", ["owner", "admin", "expert"])
async def test_its_owner_and_administrators_may_write_its_knowledge(
    api: PersonaAPI, school: School, writer: str
) -> None:
    made = await school.expert.make_persona()

    await _require(api, getattr(school, writer), made["persona_id"], write=True)


@pytest.mark.parametrize("writer", ["colleague", "learner"])
async def test_others_may_not_write_its_knowledge(api: PersonaAPI, school: School, writer: str) -> None:
    made = await school.expert.make_persona()

    with pytest.raises(NotOwnPersona):
        await _require(api, getattr(school, writer), made["persona_id"], write=True)


@pytest.mark.parametrize("write", [True, False])
async def test_a_foreign_persona_is_unknown(
    api: PersonaAPI, school: School, other_school: School, *, write: bool
) -> None:
    made = await other_school.expert.make_persona()

    with pytest.raises(PersonaNotFound):
        await _require(api, school.owner, made["persona_id"], write=write)


async def test_who_has_no_account_any_more_may_not_write(api: PersonaAPI, school: School) -> None:
    made = await school.expert.make_persona()
    gone = Member(
        principal=type(school.owner.principal)(new_id(), school.org_id, school.owner.principal.role),
        headers={},
        client=api.client,
    )

    with pytest.raises(Unauthenticated):
        await _require(api, gone, made["persona_id"], write=True)


async def test_settings_merged_at_the_same_moment_are_all_kept(committed_api: PersonaAPI) -> None:
    school = await committed_api.new_school()
    made = await school.expert.make_persona(settings={})
    changes = [{"top_k": 7}, {"alpha": 0.2}, {"fusion": "rrf"}, {"language": "fr"}]

    await asyncio.gather(
        *(school.expert.post(f"/personas/{made['persona_id']}/settings", change) for change in changes)
    )

    after = (await school.expert.get(f"/personas/{made['persona_id']}")).json()
    assert after["settings"] == {"top_k": 7, "alpha": 0.2, "fusion": "rrf", "language": "fr"}
    assert after["version"] == 5


async def test_of_replacements_of_one_version_at_the_same_moment_one_wins(committed_api: PersonaAPI) -> None:
    school = await committed_api.new_school()
    made = await school.expert.make_persona()

    answers = await asyncio.gather(
        *(school.expert.put(f"/personas/{made['persona_id']}", {**PERSONA, "version": 1}) for _ in range(4))
    )

    assert sorted(answer.status_code for answer in answers) == [200, 409, 409, 409]
