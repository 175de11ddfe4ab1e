"""Signed addresses end when they say."""

from bwenge.kit.ids import new_id
from bwenge.knowledge.links import LIFETIME_SECONDS, InvalidSignature, SignedSourceLinks

KEY = b"a key of thirty-two bytes or so."


def parts(address: str) -> tuple[int, str]:
    fields = dict(field.split("=", 1) for field in address.split("?")[1].partition("#")[0].split("&"))
    return int(fields["expires"]), fields["signature"]


def is_open(links: SignedSourceLinks, address: str, **who: object) -> bool:
    expires, signature = parts(address)
    try:
        links.verify(who["source_id"], org_id=who["org_id"], expires=expires, signature=signature)  # type: ignore[arg-type]  # ids
    except InvalidSignature:
        return False
    return True


def test_an_address_is_good_for_an_hour_and_no_longer() -> None:
    now = 1_000_000.0
    links = SignedSourceLinks(KEY, clock=lambda: now)
    who = {"source_id": new_id(), "org_id": new_id()}
    address = links.source_url(**who, locator={})
    now += LIFETIME_SECONDS
    assert is_open(links, address, **who)
    now += 1
    assert not is_open(links, address, **who)


def test_another_key_another_source_or_another_organisation_opens_nothing() -> None:
    links = SignedSourceLinks(KEY)
    who = {"source_id": new_id(), "org_id": new_id()}
    address = links.source_url(**who, locator={})
    assert not is_open(SignedSourceLinks(KEY[::-1]), address, **who)
    assert not is_open(links, address, source_id=new_id(), org_id=who["org_id"])
    assert not is_open(links, address, source_id=who["source_id"], org_id=new_id())


def test_the_fragment_opens_the_page_or_the_second() -> None:
    links = SignedSourceLinks(KEY)
    assert links.source_url(new_id(), new_id(), locator={"start_time": 61.5}).endswith("#t=61.5")
    assert "#" not in links.source_url(new_id(), new_id(), locator={"heading": "A > B"})
