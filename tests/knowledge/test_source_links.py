"""Signed addresses as such: for what they are good, and for how long."""

from collections.abc import Collection
from urllib.parse import parse_qs, urlsplit
from uuid import UUID

import pytest
from sqlalchemy.ext.asyncio import AsyncSession

from bwenge.kit.identity import Principal
from bwenge.kit.ids import new_id
from bwenge.kit.signing import InvalidSignature
from bwenge.knowledge.links import LIFETIME_SECONDS, SignedSourceLinks

KEY = b"k" * 32
SOURCE, ORG = new_id(), new_id()


class Clock:
    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


class NoPersonas:
    """Nothing is asked of it: signing looks nothing up."""

    async def require(self, session: AsyncSession, principal: Principal, persona_id: UUID, *, write: bool) -> None:
        raise AssertionError((session, principal, persona_id, write))

    async def existing(self, session: AsyncSession, persona_ids: Collection[UUID], org_id: UUID) -> frozenset[UUID]:
        raise AssertionError((session, persona_ids, org_id))


def signer(clock: Clock, *, key: bytes = KEY) -> SignedSourceLinks:
    return SignedSourceLinks(key, personas=NoPersonas(), clock=clock)


def signed(links: SignedSourceLinks) -> tuple[int, str]:
    """Expiry and signature of an address of SOURCE."""
    query = parse_qs(urlsplit(links.source_url(SOURCE, ORG, locator={})).query)
    assert UUID(query["org"][0]) == ORG
    return int(query["expires"][0]), query["signature"][0]


def test_an_address_is_good_for_an_hour_and_no_second_longer(clock: Clock) -> None:
    links = signer(clock)
    expires, signature = signed(links)
    clock.now += LIFETIME_SECONDS
    links.verify(SOURCE, org_id=ORG, expires=expires, signature=signature)
    clock.now += 1
    with pytest.raises(InvalidSignature):
        links.verify(SOURCE, org_id=ORG, expires=expires, signature=signature)


@pytest.mark.parametrize("change", ["source", "org", "expires", "signature", "empty signature", "not ASCII"])
def test_an_address_changed_in_any_part_is_refused(clock: Clock, change: str) -> None:
    links = signer(clock)
    expires, signature = signed(links)
    other = {"signature": signature[:-2] + "AA", "empty signature": "", "not ASCII": "é" * 43}
    with pytest.raises(InvalidSignature):
        links.verify(
            new_id() if change == "source" else SOURCE,
            org_id=new_id() if change == "org" else ORG,
            expires=expires + 1 if change == "expires" else expires,
            signature=other.get(change, signature),
        )


def test_an_address_signed_with_another_key_is_refused(clock: Clock) -> None:
    expires, signature = signed(signer(clock, key=b"o" * 32))
    with pytest.raises(InvalidSignature):
        signer(clock).verify(SOURCE, org_id=ORG, expires=expires, signature=signature)


@pytest.mark.parametrize(
    ("locator", "fragment"),
    [
        ({"page": 7, "char_start": 0, "char_end": 9}, "page=7"),
        ({"start_time": 62.5, "end_time": 70.0}, "t=62.5"),
        ({"start_time": 60.0}, "t=60"),
        ({"heading": "1 Percentages", "char_start": 0}, ""),
        ({}, ""),
    ],
)
def test_the_fragment_opens_the_place(locator: dict[str, object], fragment: str) -> None:
    address = urlsplit(signer(Clock()).source_url(SOURCE, ORG, locator=locator))
    assert (address.path, address.fragment) == (f"/knowledge/{SOURCE}/file", fragment)
