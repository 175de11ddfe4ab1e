"""POST /knowledge/upload: what is accepted, what is refused, and that nothing of either stays on the local disk."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import Any, Final
from uuid import UUID, uuid4

import httpx2
import pytest
from sqlalchemy import text

from bwenge.kit.blobs.store import BlobKey
from bwenge.kit.identity import Role
from bwenge.knowledge import uploads
from tests.support.application import Application, Person
from tests.support.databases import SavepointDatabase
from tests.support.feature_app import code_of

BOUNDARY: Final = "kigali-2026"
TEXT: Final = b"The fare from Kigali to Huye is 3,200 francs."
PNG: Final = b"\x89PNG\r\n\x1a\n" + bytes(range(256))


def part(disposition: str, content: bytes) -> bytes:
    head = f"--{BOUNDARY}\r\nContent-Disposition: form-data; {disposition}\r\n\r\n"
    return head.encode() + content + b"\r\n"


def form(*parts: bytes) -> bytes:
    return b"".join(parts) + f"--{BOUNDARY}--\r\n".encode()


def file_part(content: bytes = TEXT, *, name: str = 'filename="a.txt"') -> bytes:
    return part(f'name="file"; {name}', content)


@pytest.fixture
async def owner(application: Application) -> Person:
    return await application.register()


@pytest.fixture
async def persona_id(application: Application, owner: Person) -> UUID:
    return await application.create_persona(owner)


@pytest.fixture
def persona_part(persona_id: UUID) -> bytes:
    return part('name="persona_id"', str(persona_id).encode())


async def post(
    application: Application, person: Person, body: bytes | AsyncIterator[bytes], **headers: str
) -> httpx2.Response:
    content_type = {"content-type": f"multipart/form-data; boundary={BOUNDARY}"}
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    return await application.client.post(
        "/knowledge/upload", headers=content_type | person.headers | given, content=body
    )


async def status_of(application: Application, owner: Person, answer: httpx2.Response) -> dict[str, Any]:
    assert answer.status_code == 202, answer.text
    status = await application.client.get(f"/knowledge/{answer.json()['source_id']}/status", headers=owner.headers)
    body: dict[str, Any] = status.json()
    return body


def spooled(application: Application) -> list[Any]:
    return list(application.platform.spool.iterdir())


async def test_an_accepted_upload_answers_202_with_the_contracts_fields(
    application: Application, owner: Person, persona_id: UUID
) -> None:
    answer = await application.upload(owner, persona_id, TEXT)
    body = answer.json()
    assert answer.status_code == 202
    assert body.keys() == {"upload_id", "source_id", "status", "message", "duplicate"}
    assert body["upload_id"] == body["source_id"]
    assert (body["status"], body["duplicate"]) == ("pending", False)


async def test_an_accepted_upload_asks_for_its_ingestion_and_its_sweep(
    application: Application, owner: Person, persona_id: UUID, database: SavepointDatabase
) -> None:
    await application.upload(owner, persona_id, TEXT)
    async with database.superuser() as connection:
        kinds = (await connection.execute(text("SELECT kind FROM jobs ORDER BY kind"))).scalars().all()
    assert kinds == ["knowledge.ingest", "knowledge.sweep_file"]


async def test_the_same_content_for_the_same_persona_is_the_source_that_is_there(
    application: Application, owner: Person, persona_id: UUID
) -> None:
    first = await application.upload(owner, persona_id, TEXT)
    again = await application.upload(owner, persona_id, TEXT, name="another name.txt")
    assert again.status_code == 200
    assert again.json()["duplicate"] is True
    assert again.json()["source_id"] == first.json()["source_id"]


async def test_a_duplicate_tells_the_status_of_the_source_that_is_there(
    application: Application, owner: Person, persona_id: UUID
) -> None:
    await application.add_document(owner, persona_id, TEXT)
    assert (await application.upload(owner, persona_id, TEXT)).json()["status"] == "ready"


async def test_a_failed_source_begins_anew_with_the_file_that_is_sent_again(
    application: Application, owner: Person, persona_id: UUID
) -> None:
    source_id = (await application.upload(owner, persona_id, TEXT)).json()["source_id"]
    stored = await application.platform.knowledge.sources.find_file(UUID(source_id), org_id=owner.org_id)
    await application.platform.resources.blobs.delete(stored.key)
    await application.ingest(owner, UUID(source_id))
    path = f"/knowledge/{source_id}/status"
    failed = (await application.client.get(path, headers=owner.headers)).json()
    assert (failed["status"], failed["error_code"]) == ("failed", "storage_failed")

    again = await application.upload(owner, persona_id, TEXT)

    assert again.status_code == 202
    assert {"source_id": source_id, "status": "pending", "duplicate": False}.items() <= again.json().items()
    waiting = (await application.client.get(path, headers=owner.headers)).json()
    begun = {"status": "pending", "stage": "queued", "progress": 0.0, "attempts": 0, "error_code": None}
    assert begun.items() <= waiting.items()
    assert waiting["error_message"] is None
    await application.ingest(owner, UUID(source_id))
    assert (await application.client.get(path, headers=owner.headers)).json()["status"] == "ready"


async def test_a_source_that_begins_anew_asks_for_its_ingestion_and_leaves_an_event(
    application: Application, owner: Person, persona_id: UUID, database: SavepointDatabase
) -> None:
    source_id = await application.add_document(owner, persona_id, b"")
    await application.upload(owner, persona_id, b"")
    async with database.superuser() as connection:
        jobs = text("SELECT count(*) FROM jobs WHERE kind = 'knowledge.ingest' AND ordering_key = :key")
        assert await connection.scalar(jobs, {"key": f"source:{source_id}"}) == 2
        events = text("SELECT count(*) FROM analytics_events WHERE event_type = 'source_uploaded'")
        assert await connection.scalar(events) == 2


async def test_a_source_without_vectors_stays_searchable_while_it_begins_anew(
    application: Application, owner: Person, persona_id: UUID, database: SavepointDatabase
) -> None:
    source_id = await application.add_document(owner, persona_id, TEXT)
    async with database.superuser() as connection:
        await connection.execute(text("UPDATE knowledge_sources SET status = 'failed', searchable = 'keyword'"))
    await application.upload(owner, persona_id, TEXT)
    search = {"persona_id": str(persona_id), "query": "fare to Huye"}
    found = await application.client.post("/knowledge/search", headers=owner.headers, json=search)
    assert [hit["source_id"] for hit in found.json()["items"]] == [str(source_id)]


async def test_a_failed_source_that_is_deleted_while_its_file_arrives_says_to_send_it_again(
    application: Application, owner: Person, persona_id: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    source_id = await application.add_document(owner, persona_id, b"")
    put = application.platform.resources.blobs.put

    async def deleted_meanwhile(*given: Any) -> None:
        await put(*given)
        await application.client.delete(f"/knowledge/{source_id}", headers=owner.headers)

    with monkeypatch.context() as patch:
        patch.setattr(application.platform.resources.blobs, "put", deleted_meanwhile)
        assert code_of(await application.upload(owner, persona_id, b"")) == (503, "unavailable")
    again = await application.upload(owner, persona_id, b"")
    assert again.status_code == 202
    assert again.json()["source_id"] != str(source_id)


async def test_the_same_content_for_another_persona_is_another_source(
    application: Application, owner: Person, persona_id: UUID
) -> None:
    other = await application.create_persona(owner, name="Keza")
    first = await application.upload(owner, persona_id, TEXT)
    second = await application.upload(owner, other, TEXT)
    assert second.status_code == 202
    assert second.json()["source_id"] != first.json()["source_id"]


async def test_a_deleted_content_may_be_uploaded_anew(
    application: Application, owner: Person, persona_id: UUID
) -> None:
    first = (await application.upload(owner, persona_id, TEXT)).json()
    await application.client.delete(f"/knowledge/{first['source_id']}", headers=owner.headers)
    again = await application.upload(owner, persona_id, TEXT)
    assert again.status_code == 202
    assert again.json()["source_id"] != first["source_id"]


async def test_a_content_whose_removal_was_given_up_can_be_uploaded_again_as_soon_as_the_store_is_back(
    application: Application,
    owner: Person,
    persona_id: UUID,
    database: SavepointDatabase,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source_id = (await application.upload(owner, persona_id, TEXT)).json()["source_id"]
    key = (await application.platform.knowledge.sources.find_file(UUID(source_id), org_id=owner.org_id)).key
    await application.client.delete(f"/knowledge/{source_id}", headers=owner.headers)

    async def away(_key: BlobKey) -> None:
        raise ConnectionError("the store is away")

    with monkeypatch.context() as patch:
        patch.setattr(application.platform.resources.blobs, "delete", away)
        with pytest.raises(ConnectionError):
            await application.platform.knowledge.removal.remove_file(key)
    async with database.superuser() as connection:
        await connection.execute(text("UPDATE jobs SET state = 'dead'"))
    refusals = [await application.upload(owner, persona_id, TEXT) for _ in range(2)]
    assert [code_of(refusal) for refusal in refusals] == [(503, "unavailable")] * 2
    assert refusals[0].headers["retry-after"] == "1"
    async with database.superuser() as connection:
        asked = await connection.execute(
            text("SELECT kind FROM jobs WHERE state = 'queued' AND run_after <= clock_timestamp()")
        )
        assert asked.scalars().all() == ["knowledge.remove_file"]
    await application.platform.knowledge.removal.remove_file(key)
    assert (await application.upload(owner, persona_id, TEXT)).status_code == 202


@pytest.mark.parametrize("name", ["photo.png", "photo.pdf", "photo.txt"])
async def test_a_type_that_is_not_read_is_refused_by_content_whatever_the_name_says(
    application: Application, owner: Person, persona_id: UUID, name: str
) -> None:
    answer = await application.upload(owner, persona_id, PNG, name=name)
    assert code_of(answer) == (415, "unsupported_type")
    assert spooled(application) == []


async def test_a_pdf_named_as_text_is_a_pdf(application: Application, owner: Person, persona_id: UUID) -> None:
    answer = await application.upload(owner, persona_id, b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n", name="notes.txt")
    assert (await status_of(application, owner, answer))["type"] == "pdf"


async def test_an_empty_file_is_accepted_and_its_ingestion_says_that_it_is_empty(
    application: Application, owner: Person, persona_id: UUID
) -> None:
    source_id = await application.add_document(owner, persona_id, b"")
    answer = await application.client.get(f"/knowledge/{source_id}/status", headers=owner.headers)
    assert (answer.json()["status"], answer.json()["error_code"]) == ("failed", "empty_file")


class Sent:
    """A body in pieces, which knows how many were taken."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = pieces
        self.taken = 0

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self._pieces:
            self.taken += 1
            yield piece


async def test_a_file_that_is_declared_too_large_is_refused_before_it_is_stored(
    application: Application, owner: Person, persona_part: bytes
) -> None:
    body = form(persona_part, file_part())
    answer = await post(application, owner, body, content_length=str(uploads.MAX_FILE_BYTES + 2**20))
    assert code_of(answer) == (413, "too_large")
    assert spooled(application) == []


async def test_a_file_that_grows_too_large_is_refused_without_its_length_being_declared(
    application: Application, owner: Person, persona_part: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploads, "MAX_FILE_BYTES", 1000)
    pieces = Sent([persona_part + file_part(b"")[:-2], *[b"x" * 400] * 3, form(b"\r\n")])
    assert code_of(await post(application, owner, aiter(pieces))) == (413, "too_large")
    assert spooled(application) == []


async def test_a_file_of_exactly_the_limit_is_accepted(
    application: Application, owner: Person, persona_id: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploads, "MAX_FILE_BYTES", len(TEXT))
    assert (await application.upload(owner, persona_id, TEXT)).status_code == 202
    assert (await application.upload(owner, persona_id, TEXT + b"!")).status_code == 413


async def test_a_form_that_never_ends_is_refused_though_its_file_is_small(
    application: Application, owner: Person, persona_part: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What comes after the last boundary belongs to no part, and counts all the same."""
    monkeypatch.setattr(uploads, "MAX_FILE_BYTES", 1000)
    monkeypatch.setattr(uploads, "MAX_FORM_BYTES", 1000)
    monkeypatch.setattr(uploads, "_DRAINED_BYTES", 1000)
    pieces = Sent([form(persona_part, file_part()), *[b"x" * 500] * 100])
    assert code_of(await post(application, owner, aiter(pieces))) == (413, "too_large")
    assert pieces.taken < 20


async def test_the_rest_of_a_refused_body_is_read_only_so_far(
    application: Application, owner: Person, persona_part: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploads, "MAX_FILE_BYTES", 1000)
    monkeypatch.setattr(uploads, "_DRAINED_BYTES", 5000)
    pieces = Sent([persona_part + file_part(b"")[:-2], *[b"x" * 1000] * 100])
    assert (await post(application, owner, aiter(pieces))).status_code == 413
    assert pieces.taken == 1 + 2 + 6


MALFORMED: Final = {
    "no file": (form(), {}),
    "two files": (form(file_part(), file_part()), {}),
    "cut off in the file": (form(file_part())[:-20], {}),
    "cut off before the file": (part('name="title"', b"Lesson")[:-10], {}),
    "nothing at all": (b"", {}),
    "no boundary in the content type": (form(file_part()), {"content_type": "multipart/form-data"}),
    "another boundary": (form(file_part()), {"content_type": "multipart/form-data; boundary=other"}),
    "JSON": (b'{"file": "a"}', {"content_type": "application/json"}),
    "too many fields": (form(*[part(f'name="f{n}"', b"1") for n in range(20)], file_part()), {}),
    "one field twice": (form(part('name="title"', b"1"), part('name="title"', b"2"), file_part()), {}),
    "an over-long field": (form(part('name="title"', b"x" * 5000), file_part()), {}),
    "an over-long header": (form(part(f'name="{"x" * 5000}"', b"1"), file_part()), {}),
    "a part without a name": (form(part('filename="a.txt"', b"1"), file_part()), {}),
    "a part without headers": (form(f"--{BOUNDARY}\r\n\r\n1\r\n".encode(), file_part()), {}),
}


@pytest.mark.parametrize("case", MALFORMED)
async def test_a_malformed_form_is_refused_with_422(
    application: Application, owner: Person, persona_part: bytes, case: str
) -> None:
    body, headers = MALFORMED[case]
    assert code_of(await post(application, owner, persona_part + body, **headers)) == (422, "invalid")
    assert spooled(application) == []


@pytest.mark.parametrize("value", [None, "", "abc", "1"])
async def test_a_missing_or_malformed_persona_is_named_as_the_field_that_is_wrong(
    application: Application, owner: Person, value: str | None
) -> None:
    parts = [] if value is None else [part('name="persona_id"', value.encode())]
    answer = await post(application, owner, form(*parts, file_part()))
    assert code_of(answer) == (422, "invalid")
    assert [finding["field"] for finding in answer.json()["errors"]] == ["persona_id"]


async def test_the_fields_may_come_after_the_file(application: Application, owner: Person, persona_part: bytes) -> None:
    assert (await post(application, owner, form(file_part(), persona_part))).status_code == 202


async def test_a_form_may_arrive_byte_by_byte(application: Application, owner: Person, persona_part: bytes) -> None:
    body = form(persona_part, part('name="title"', b"Igitabo cy'imibare"), file_part())
    answer = await post(application, owner, aiter(Sent(body[n : n + 1] for n in range(len(body)))))
    assert (await status_of(application, owner, answer))["title"] == "Igitabo cy'imibare"


@pytest.mark.parametrize(
    ("disposition", "file_name"),
    [
        ('filename="lesson.txt"', "lesson.txt"),
        ('filename="../../etc/passwd"', "passwd"),
        (r'filename="C:\\fakepath\\lesson.txt"', "lesson.txt"),
        ('filename="a\tb\x01c.txt"', "abc.txt"),
        ('filename="élève — 数学.txt"', "élève — 数学.txt"),
        ('filename="invoice\u202etxt.exe"', "invoicetxt.exe"),
        ('filename=""', "file"),
        ('filename="../"', "file"),
        ("x=1", "file"),
        ("filename*=UTF-8''%C3%A9.txt", "file"),  # RFC 7578, 4.2: not used in forms
        (f'filename="{"n" * 300}.txt"', "n" * 255),
    ],
)
async def test_the_file_name_is_its_last_part_fit_to_be_shown(
    application: Application,
    owner: Person,
    persona_part: bytes,
    disposition: str,
    file_name: str,
    database: SavepointDatabase,
) -> None:
    answer = await post(application, owner, form(persona_part, file_part(name=disposition)))
    assert answer.status_code == 202, answer.text
    async with database.superuser() as connection:
        assert await connection.scalar(text("SELECT file_name FROM knowledge_sources")) == file_name


@pytest.mark.parametrize(
    ("title", "shown"), [("  Percentages  ", "Percentages"), ("", "a"), ("x" * 200, "x" * 200), ("a\x00b", "ab")]
)
async def test_the_title_is_the_one_given_or_else_the_names_stem(
    application: Application, owner: Person, persona_part: bytes, title: str, shown: str
) -> None:
    answer = await post(application, owner, form(persona_part, part('name="title"', title.encode()), file_part()))
    assert (await status_of(application, owner, answer))["title"] == shown


async def test_a_title_of_more_than_200_characters_is_refused(
    application: Application, owner: Person, persona_part: bytes
) -> None:
    answer = await post(application, owner, form(persona_part, part('name="title"', b"x" * 201), file_part()))
    assert code_of(answer) == (422, "invalid")
    assert answer.json()["errors"][0]["field"] == "title"


async def test_a_learner_may_not_upload(application: Application, owner: Person, persona_id: UUID) -> None:
    learner = await application.add_member(owner.org_id, Role.USER)
    assert code_of(await application.upload(learner, persona_id, TEXT)) == (403, "forbidden")


async def test_nobody_uploads_without_a_token(application: Application, persona_part: bytes) -> None:
    answer = await application.client.post("/knowledge/upload", content=form(persona_part, file_part()))
    assert code_of(answer) == (401, "unauthenticated")


async def test_an_expert_may_not_upload_to_another_experts_persona(
    application: Application, owner: Person, persona_id: UUID
) -> None:
    expert = await application.add_member(owner.org_id, Role.EXPERT)
    assert code_of(await application.upload(expert, persona_id, TEXT)) == (403, "forbidden")
    assert spooled(application) == []


async def test_an_upload_to_an_unknown_persona_is_404(application: Application, owner: Person) -> None:
    assert code_of(await application.upload(owner, uuid4(), TEXT)) == (404, "not_found")


async def test_nothing_stays_in_the_spool_after_an_upload(
    application: Application, owner: Person, persona_id: UUID
) -> None:
    await application.upload(owner, persona_id, TEXT)
    assert spooled(application) == []


async def test_nothing_stays_in_the_spool_when_the_client_leaves_in_the_middle(
    application: Application, owner: Person, persona_part: bytes
) -> None:
    begun = asyncio.Event()

    async def half() -> AsyncIterator[bytes]:
        yield persona_part + file_part()[:80]
        begun.set()
        await asyncio.Event().wait()

    upload = asyncio.create_task(post(application, owner, half()))
    await begun.wait()
    upload.cancel()
    await asyncio.gather(upload, return_exceptions=True)
    assert spooled(application) == []


async def test_an_upload_whose_content_is_being_removed_at_this_moment_may_be_sent_again(
    application: Application, owner: Person, persona_id: UUID, database: SavepointDatabase
) -> None:
    await application.upload(owner, persona_id, TEXT)
    async with database.superuser() as connection:
        await connection.execute(text("UPDATE blobs SET state = 'deleting'"))
    other = await application.create_persona(owner, name="Keza")
    answer = await application.upload(owner, other, TEXT)
    assert code_of(answer) == (503, "unavailable")
    assert answer.headers["retry-after"] == "1"


async def test_an_upload_leaves_an_event_that_says_what_and_by_whom(
    application: Application, owner: Person, persona_id: UUID, database: SavepointDatabase
) -> None:
    source_id = (await application.upload(owner, persona_id, TEXT)).json()["source_id"]
    async with database.superuser() as connection:
        row = (await connection.execute(text("SELECT * FROM analytics_events"))).one()
    assert (row.event_type, row.user_id, row.persona_id) == ("source_uploaded", owner.user_id, persona_id)
    assert row.payload == {"source_id": source_id, "type": "text", "file_size": len(TEXT)}
