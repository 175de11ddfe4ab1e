"""GET and HEAD /knowledge/{source_id}/file: whole, in ranges, unchanged, and by a signed address."""

import time
from io import BytesIO
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit
from uuid import UUID

import httpx2
import pytest
from reportlab.pdfgen.canvas import Canvas
from sqlalchemy import text

from bwenge.kit.blobs.store import BlobKey
from bwenge.kit.identity import Role
from bwenge.kit.ids import new_id
from bwenge.knowledge.links import SignedSourceLinks
from tests.support.application import Application, Person
from tests.support.databases import SavepointDatabase
from tests.support.feature_app import code_of

TEXT = b"The fare from Kigali to Huye is 3,200 francs."


@pytest.fixture
async def owner(application: Application) -> Person:
    return await application.register()


@pytest.fixture
async def source_id(application: Application, owner: Person) -> UUID:
    persona_id = await application.create_persona(owner)
    return UUID((await application.upload(owner, persona_id, TEXT, name="lesson.txt")).json()["source_id"])


async def open_file(
    application: Application, person: Person | None, source_id: UUID, *, method: str = "GET", **headers: str
) -> httpx2.Response:
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    return await application.client.request(
        method, f"/knowledge/{source_id}/file", headers=given | (person.headers if person else {})
    )


def signed_query(links: SignedSourceLinks, person: Person, source_id: UUID) -> dict[str, str]:
    return dict(parse_qsl(urlsplit(links.source_url(source_id, person.org_id, locator={})).query))


def said(answer: httpx2.Response) -> dict[str, object]:
    """A refusal without its request id."""
    return {name: value for name, value in answer.json().items() if name != "request_id"}


async def test_the_whole_file_is_what_was_uploaded(application: Application, owner: Person, source_id: UUID) -> None:
    answer = await open_file(application, owner, source_id)
    assert (answer.status_code, answer.content) == (200, TEXT)
    assert answer.headers["content-length"] == str(len(TEXT))
    assert answer.headers["accept-ranges"] == "bytes"


async def test_head_answers_as_get_does_without_the_body(
    application: Application, owner: Person, source_id: UUID
) -> None:
    got, head = [await open_file(application, owner, source_id, method=method) for method in ("GET", "HEAD")]
    assert (head.status_code, head.content) == (200, b"")
    for name in ("content-length", "content-type", "etag", "accept-ranges", "content-disposition"):
        assert head.headers[name] == got.headers[name]


@pytest.mark.parametrize(
    ("asked", "start", "end"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=4-7", 4, 8),
        ("bytes=40-", 40, 45),
        ("bytes=-7", 38, 45),
        ("bytes=-9999", 0, 45),
        ("bytes=40-9999", 40, 45),
        ("bytes=0-", 0, 45),
    ],
)
async def test_a_range_is_those_bytes_and_says_of_how_many(
    application: Application, owner: Person, source_id: UUID, asked: str, start: int, end: int
) -> None:
    answer = await open_file(application, owner, source_id, range=asked)
    assert (answer.status_code, answer.content) == (206, TEXT[start:end])
    assert answer.headers["content-range"] == f"bytes {start}-{end - 1}/{len(TEXT)}"
    assert answer.headers["content-length"] == str(end - start)


async def test_head_of_a_range_tells_its_length(application: Application, owner: Person, source_id: UUID) -> None:
    answer = await open_file(application, owner, source_id, method="HEAD", range="bytes=4-7")
    assert (answer.status_code, answer.content, answer.headers["content-length"]) == (206, b"", "4")


@pytest.mark.parametrize("asked", ["bytes=45-", "bytes=9999-10000", "bytes=-0"])
async def test_a_range_beyond_the_end_is_refused_with_the_size(
    application: Application, owner: Person, source_id: UUID, asked: str
) -> None:
    answer = await open_file(application, owner, source_id, range=asked)
    assert code_of(answer) == (416, "range_not_satisfiable")
    assert answer.headers["content-range"] == f"bytes */{len(TEXT)}"


@pytest.mark.parametrize(
    "asked",
    [
        "bytes=",
        "bytes=-",
        "bytes=a-b",
        "bytes=7-4",
        "lines=0-3",
        "0-3",
        "bytes=0-3,8-9",
        "bytes=" + ",".join(f"{n}-{n}" for n in range(40)),
        "bytes=" + "9" * 30 + "-",
    ],
)
async def test_a_range_that_is_malformed_or_of_several_parts_is_ignored(
    application: Application, owner: Person, source_id: UUID, asked: str
) -> None:
    answer = await open_file(application, owner, source_id, range=asked)
    assert (answer.status_code, answer.content) == (200, TEXT)


async def test_a_file_without_bytes_is_sent_as_such(application: Application, owner: Person) -> None:
    persona_id = await application.create_persona(owner)
    source_id = (await application.upload(owner, persona_id, b"")).json()["source_id"]
    assert (await open_file(application, owner, source_id)).content == b""
    assert (await open_file(application, owner, source_id, range="bytes=0-")).status_code == 416


@pytest.mark.parametrize("form", ["{}", "W/{}", '"other", {}', "*"])
async def test_a_client_that_holds_the_file_is_not_sent_it_again(
    application: Application, owner: Person, source_id: UUID, form: str
) -> None:
    etag = (await open_file(application, owner, source_id)).headers["etag"]
    answer = await open_file(application, owner, source_id, if_none_match=form.format(etag))
    assert (answer.status_code, answer.content) == (304, b"")
    assert answer.headers["etag"] == etag


async def test_a_client_that_holds_another_file_is_sent_this_one(
    application: Application, owner: Person, source_id: UUID
) -> None:
    answer = await open_file(application, owner, source_id, if_none_match='"other"')
    assert (answer.status_code, answer.content) == (200, TEXT)


async def test_a_download_goes_on_only_where_the_file_is_still_the_same(
    application: Application, owner: Person, source_id: UUID
) -> None:
    etag = (await open_file(application, owner, source_id)).headers["etag"]
    same = await open_file(application, owner, source_id, range="bytes=40-", if_range=etag)
    other = await open_file(application, owner, source_id, range="bytes=40-", if_range='"other"')
    assert (same.status_code, same.content) == (206, TEXT[40:])
    assert (other.status_code, other.content) == (200, TEXT)


async def test_a_text_is_shown_and_can_run_nothing(application: Application, owner: Person, source_id: UUID) -> None:
    headers = (await open_file(application, owner, source_id)).headers
    assert headers["content-type"] == "text/plain; charset=utf-8"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["content-security-policy"] == "default-src 'none'; sandbox"
    assert headers["cache-control"].startswith("private")


async def test_a_pdf_is_left_to_the_browsers_viewer_which_a_policy_would_blank(
    application: Application, owner: Person
) -> None:
    persona_id = await application.create_persona(owner)
    buffer = BytesIO()
    canvas = Canvas(buffer)
    canvas.drawString(72, 720, "A percentage is a fraction of one hundred.")
    canvas.save()
    source_id = (await application.upload(owner, persona_id, buffer.getvalue())).json()["source_id"]
    headers = (await open_file(application, owner, source_id)).headers
    assert headers["content-type"] == "application/pdf"
    assert headers["x-content-type-options"] == "nosniff"
    assert "content-security-policy" not in headers


async def test_a_web_page_that_was_uploaded_as_text_is_not_a_web_page(application: Application, owner: Person) -> None:
    persona_id = await application.create_persona(owner)
    page = b"<html><script>alert(1)</script></html>"
    source_id = (await application.upload(owner, persona_id, page, name="page.html")).json()["source_id"]
    answer = await open_file(application, owner, source_id)
    assert answer.headers["content-type"].startswith("text/plain")


async def test_the_name_is_told_inline_in_any_script(application: Application, owner: Person) -> None:
    persona_id = await application.create_persona(owner)
    answer = await application.upload(owner, persona_id, TEXT, name="élève '1'; 数.txt")
    headers = (await open_file(application, owner, answer.json()["source_id"])).headers
    assert headers["content-disposition"] == "inline; filename*=UTF-8''%C3%A9l%C3%A8ve%20%271%27%3B%20%E6%95%B0.txt"


async def test_without_login_and_signature_nobody_opens_a_file(application: Application, source_id: UUID) -> None:
    assert code_of(await open_file(application, None, source_id)) == (401, "unauthenticated")


async def test_a_learner_without_a_signature_does_not_open_a_file(
    application: Application, owner: Person, source_id: UUID
) -> None:
    learner = await application.add_member(owner.org_id, Role.USER)
    assert code_of(await open_file(application, learner, source_id)) == (403, "forbidden")


@pytest.mark.parametrize("change", [{"is_active": False}, {"role": "user"}])
async def test_an_old_token_of_a_deactivated_or_demoted_member_opens_no_file(
    application: Application, owner: Person, source_id: UUID, change: dict[str, object]
) -> None:
    expert = await application.add_member(owner.org_id, Role.EXPERT)
    assert (await open_file(application, expert, source_id)).status_code == 200
    path = f"/orgs/{owner.org_id}/members/{expert.user_id}"
    await application.client.patch(path, headers=owner.headers, json=change)
    for asked in (source_id, new_id()):
        assert code_of(await open_file(application, expert, asked)) == (401, "unauthenticated")


async def test_a_signed_address_opens_the_file_without_a_login(
    application: Application, owner: Person, source_id: UUID
) -> None:
    address = application.platform.knowledge.links.source_url(source_id, owner.org_id, locator={"page": 1})
    answer = await application.client.get(address)
    assert (answer.status_code, answer.content) == (200, TEXT)


async def test_a_learner_opens_a_signed_address_as_anyone_does(
    application: Application, owner: Person, source_id: UUID
) -> None:
    learner = await application.add_member(owner.org_id, Role.USER)
    address = application.platform.knowledge.links.source_url(source_id, owner.org_id, locator={})
    assert (await application.client.get(address, headers=learner.headers)).content == TEXT


async def test_a_signed_address_that_has_expired_is_refused_even_with_a_learners_login(
    application: Application, owner: Person, source_id: UUID
) -> None:
    links = application.platform.knowledge.links
    past = SignedSourceLinks(links._signer._key, personas=links._personas, clock=lambda: time.time() - 2 * 3600)
    answer = await application.client.get(past.source_url(source_id, owner.org_id, locator={}))
    assert code_of(answer) == (403, "invalid_signature")


@pytest.mark.parametrize("part", ["org", "expires", "signature"])
async def test_a_signed_address_changed_in_any_part_is_refused(
    application: Application, owner: Person, source_id: UUID, part: str
) -> None:
    query = signed_query(application.platform.knowledge.links, owner, source_id)
    other = {"org": str(new_id()), "expires": str(int(query["expires"]) + 1), "signature": "A" * 43}
    query[part] = other[part]
    answer = await application.client.get(f"/knowledge/{source_id}/file", params=query)
    assert code_of(answer) == (403, "invalid_signature")


async def test_the_signature_of_one_source_does_not_open_another(
    application: Application, owner: Person, source_id: UUID
) -> None:
    persona_id = await application.create_persona(owner, name="Keza")
    other = (await application.upload(owner, persona_id, TEXT)).json()["source_id"]
    query = signed_query(application.platform.knowledge.links, owner, source_id)
    answer = await application.client.get(f"/knowledge/{other}/file", params=query)
    assert code_of(answer) == (403, "invalid_signature")


@pytest.mark.parametrize("left_out", ["org", "expires", "signature"])
async def test_a_signed_address_with_a_part_left_out_is_refused_whoever_asks(
    application: Application, owner: Person, source_id: UUID, left_out: str
) -> None:
    query = signed_query(application.platform.knowledge.links, owner, source_id)
    del query[left_out]
    answer = await application.client.get(f"/knowledge/{source_id}/file", params=query, headers=owner.headers)
    assert code_of(answer) == (403, "invalid_signature")


async def test_a_signed_address_of_a_deleted_source_opens_nothing(
    application: Application, owner: Person, source_id: UUID
) -> None:
    address = application.platform.knowledge.links.source_url(source_id, owner.org_id, locator={})
    await application.client.delete(f"/knowledge/{source_id}", headers=owner.headers)
    assert code_of(await application.client.get(address)) == (404, "not_found")


async def test_a_signed_address_opens_nothing_of_a_deleted_persona(
    application: Application, owner: Person, source_id: UUID
) -> None:
    links = application.platform.knowledge.links
    address = links.source_url(source_id, owner.org_id, locator={})
    unknown = await application.client.get(links.source_url(new_id(), owner.org_id, locator={}))
    status = (await application.client.get(f"/knowledge/{source_id}/status", headers=owner.headers)).json()
    await application.client.delete(f"/personas/{status['persona_id']}", headers=owner.headers)
    answer = await application.client.get(address)
    assert answer.status_code == 404
    assert said(answer) == said(unknown)
    async with application.platform.resources.database.unit_of_work(owner.org_id) as session:
        assert await links.openable(session, [source_id], owner.org_id) == frozenset()


async def test_from_the_deletion_of_the_organisation_on_a_signed_address_opens_nothing(
    application: Application, owner: Person, source_id: UUID
) -> None:
    links = application.platform.knowledge.links
    address = links.source_url(source_id, owner.org_id, locator={})
    unknown = await application.client.get(links.source_url(new_id(), owner.org_id, locator={}))
    assert (await application.client.get(address)).status_code == 200
    await application.client.delete(f"/orgs/{owner.org_id}", headers=owner.headers)
    answer = await application.client.get(address)
    assert answer.status_code == 404
    assert said(answer) == said(unknown)
    assert (await application.client.head(address)).status_code == 404


async def test_a_file_that_the_store_lost_is_404_and_no_broken_200(
    application: Application, owner: Person, source_id: UUID, database: SavepointDatabase
) -> None:
    async with database.superuser() as connection:
        sha256 = await connection.scalar(text("SELECT sha256 FROM knowledge_sources"))
    await application.platform.resources.blobs.delete(BlobKey(owner.org_id, sha256))
    assert code_of(await open_file(application, owner, source_id)) == (404, "not_found")


async def test_a_range_that_a_damaged_file_does_not_reach_is_404(
    application: Application, owner: Person, source_id: UUID, tmp_path: Path
) -> None:
    stored = await application.platform.knowledge.sources.find_file(source_id, org_id=owner.org_id)
    (tmp_path / "blobs" / stored.key.path).write_bytes(TEXT[:10])
    assert code_of(await open_file(application, owner, source_id, range="bytes=20-30")) == (404, "not_found")
