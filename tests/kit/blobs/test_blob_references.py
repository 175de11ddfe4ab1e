"""A content is never removed while it is referred to or leased, and can always be removed when it is neither."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from uuid import UUID

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from bwenge.kit.blobs import references
from bwenge.kit.blobs.references import BlobBusy
from bwenge.kit.blobs.store import BlobKey
from bwenge.kit.db import Database
from bwenge.kit.ids import new_id
from tests.support.databases import SavepointDatabase

OWNERS = [new_id(), new_id()]


@pytest.fixture
def key(org_id: UUID) -> BlobKey:
    return BlobKey(org_id, "ab" * 32)


async def expire(session: AsyncSession, owner_id: UUID) -> None:
    """As if ten minutes had passed for this owner's lease."""
    statement = (
        "UPDATE blob_references SET expires_at = now() - interval '1 s' WHERE owner_id = :id AND expires_at > now()"
    )
    await session.execute(text(statement), {"id": owner_id})


@dataclass
class Model:
    """What the rows should say: who leases, who refers, whose lease has ended."""

    state: str = "absent"
    held: dict[UUID, str] = field(default_factory=dict)

    def lease(self, owner: UUID) -> bool:
        if self.state == "deleting":
            return False
        self.state = "present"
        self.held.setdefault(owner, "leased")
        return True

    def refer(self, owner: UUID) -> bool:
        if owner not in self.held:
            return False
        self.held[owner] = "referred"
        return True

    def drop(self, owner: UUID) -> bool:
        self.held.pop(owner, None)
        return True

    def expire(self, owner: UUID) -> bool:
        if self.held.get(owner) == "leased":
            self.held[owner] = "expired"
        return True

    def condemn(self, _owner: UUID) -> bool:
        if self.state == "absent" or {"leased", "referred"} & set(self.held.values()):
            return False
        self.held.clear()
        self.state = "deleting"
        return True

    def forget(self, _owner: UUID) -> bool:
        if self.state == "deleting":
            self.state = "absent"
        return True


Act = Callable[[AsyncSession, BlobKey, UUID], Awaitable[bool]]


async def _lease(session: AsyncSession, key: BlobKey, owner: UUID) -> bool:
    return await references.lease(session, key, owner_id=owner, size=3)


async def _refer(session: AsyncSession, key: BlobKey, owner: UUID) -> bool:
    try:
        async with session.begin_nested():
            await references.refer(session, key, owner_id=owner)
    except BlobBusy:
        return False
    return True


async def _drop(session: AsyncSession, key: BlobKey, owner: UUID) -> bool:
    await references.drop_reference(session, key, owner_id=owner)
    return True


async def _expire(session: AsyncSession, _key: BlobKey, owner: UUID) -> bool:
    await expire(session, owner)
    return True


async def _condemn(session: AsyncSession, key: BlobKey, _owner: UUID) -> bool:
    return await references.condemn(session, key)


async def _forget(session: AsyncSession, key: BlobKey, _owner: UUID) -> bool:
    await references.forget(session, key)
    return True


ACTS: dict[str, Act] = {
    "lease": _lease,
    "refer": _refer,
    "drop": _drop,
    "expire": _expire,
    "condemn": _condemn,
    "forget": _forget,
}


async def stored(session: AsyncSession) -> Model:
    state = await session.scalar(text("SELECT state FROM blobs"))
    rows = await session.execute(text("SELECT owner_id, expires_at IS NULL, expires_at > now() FROM blob_references"))
    names = {(True, None): "referred", (False, True): "leased", (False, False): "expired"}
    return Model(state or "absent", {row[0]: names[row[1], row[2]] for row in rows})


@pytest.mark.parametrize("seed", range(12))
async def test_whatever_two_owners_and_the_remover_do_the_rows_follow_the_model(
    database: SavepointDatabase, key: BlobKey, seed: int
) -> None:
    """Forty acts in an order that the seed decides, against a model in which removal asks for nobody's need."""
    choice, model = random.Random(seed), Model()  # noqa: S311  # an order of acts, and no secret
    async with database.unit_of_work(key.org_id) as session:
        for _ in range(40):
            name, owner = choice.choice([*ACTS]), choice.choice(OWNERS)
            expected: bool = getattr(model, name)(owner)
            assert await ACTS[name](session, key, owner) is expected, (name, model)
            assert await stored(session) == model, name


async def test_a_content_that_nobody_needs_can_be_removed(database: SavepointDatabase, key: BlobKey) -> None:
    async with database.unit_of_work(key.org_id) as session:
        await references.lease(session, key, owner_id=OWNERS[0], size=3)
        await references.refer(session, key, owner_id=OWNERS[0])
        assert await references.condemn(session, key) is False
        await references.drop_reference(session, key, owner_id=OWNERS[0])
        assert await references.condemn(session, key) is True


async def test_an_interrupted_removal_may_be_taken_up_again(database: SavepointDatabase, key: BlobKey) -> None:
    async with database.unit_of_work(key.org_id) as session:
        await references.lease(session, key, owner_id=OWNERS[0], size=3)
        await references.drop_reference(session, key, owner_id=OWNERS[0])
        assert await references.condemn(session, key) is True
        assert await references.condemn(session, key) is True
        await references.forget(session, key)
        assert (await stored(session)).state == "absent"


async def test_a_content_that_was_not_condemned_is_not_forgotten(database: SavepointDatabase, key: BlobKey) -> None:
    async with database.unit_of_work(key.org_id) as session:
        await references.lease(session, key, owner_id=OWNERS[0], size=3)
        await references.forget(session, key)
        assert (await stored(session)).state == "present"


async def test_a_content_stays_until_its_last_reference_is_dropped(database: SavepointDatabase, key: BlobKey) -> None:
    async with database.unit_of_work(key.org_id) as session:
        for owner in OWNERS:
            await references.lease(session, key, owner_id=owner, size=3)
            await references.refer(session, key, owner_id=owner)
        await references.drop_reference(session, key, owner_id=OWNERS[0])
        assert await references.condemn(session, key) is False
        await references.drop_reference(session, key, owner_id=OWNERS[1])
        assert await references.condemn(session, key) is True


async def test_a_reference_to_a_content_that_is_being_removed_says_to_come_again(
    database: SavepointDatabase, key: BlobKey
) -> None:
    async with database.unit_of_work(key.org_id) as session:
        await references.lease(session, key, owner_id=OWNERS[0], size=3)
        await expire(session, OWNERS[0])
        await references.condemn(session, key)
    with pytest.raises(BlobBusy) as refusal:
        async with database.unit_of_work(key.org_id) as session:
            await references.refer(session, key, owner_id=OWNERS[0])
    assert refusal.value.retry_after == 1


async def somebody_waits_for_a_lock(database: Database, org_id: UUID) -> None:
    waiting = text(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )
    async with asyncio.timeout(30):
        while True:
            async with database.unit_of_work(org_id) as session:
                if await session.scalar(waiting):
                    return


async def test_a_reference_that_is_being_made_is_seen_by_the_removal_that_is_being_decided(
    committed_database: Database,
) -> None:
    """The lease has ended, and both come at once: the removal waits, and then finds the content needed."""
    key = BlobKey(new_id(), "ab" * 32)
    async with committed_database.unit_of_work(key.org_id) as session:
        await references.lease(session, key, owner_id=OWNERS[0], size=3)
        await session.execute(text("UPDATE blob_references SET expires_at = now() - interval '1 s'"))

    async def condemn() -> bool:
        async with committed_database.unit_of_work(key.org_id) as session:
            return await references.condemn(session, key)

    async with committed_database.unit_of_work(key.org_id) as session:
        await references.refer(session, key, owner_id=OWNERS[0])
        removal = asyncio.create_task(condemn())
        await somebody_waits_for_a_lock(committed_database, key.org_id)
    assert await removal is False
    async with committed_database.unit_of_work(key.org_id) as session:
        assert (await stored(session)).held == {OWNERS[0]: "referred"}


async def test_the_rows_of_one_tenant_are_not_seen_by_another(database: SavepointDatabase, key: BlobKey) -> None:
    async with database.unit_of_work(key.org_id) as session:
        await references.lease(session, key, owner_id=OWNERS[0], size=3)
    async with database.unit_of_work(new_id()) as session:
        assert (await stored(session)).state == "absent"
