"""Signed addresses as such: for what they are good, and for how long."""

from urllib.parse import parse_qs, urlsplit
from uuid import UUID

import pytest

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


def signed(links: SignedSourceLinks) -> tuple[int, str]:
    """Expiry and signature of an address of SOURCE."""
    query = parse_qs(urlsplit(links.source_url(SOURCE, ORG, locator={})).query)
    assert UUID(query["org"][0]) == ORG
    return int(query["expires"][0]), query["signature"][0]


def test_an_address_is_good_for_an_hour_and_no_second_longer(clock: Clock) -> None:
    links = SignedSourceLinks(KEY, clock=clock)
    expires, signature = signed(links)
    clock.now += LIFETIME_SECONDS
    links.verify(SOURCE, org_id=ORG, expires=expires, signature=signature)
    clock.now += 1
    with pytest.raises(InvalidSignature):
        links.verify(SOURCE, org_id=ORG, expires=expires, signature=signature)


@pytest.mark.parametrize("change", ["source", "org", "expires", "signature", "empty signature", "not ASCII"])
def test_an_address_changed_in_any_part_is_refused(clock: Clock, change: str) -> None:
    links = SignedSourceLinks(KEY, clock=clock)
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
    expires, signature = signed(SignedSourceLinks(b"o" * 32, clock=clock))
    with pytest.raises(InvalidSignature):
        SignedSourceLinks(KEY, clock=clock).verify(SOURCE, org_id=ORG, expires=expires, signature=signature)


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
    address = urlsplit(SignedSourceLinks(KEY).source_url(SOURCE, ORG, locator=locator))
    assert (address.path, address.fragment) == (f"/knowledge/{SOURCE}/file", fragment)
