"""Bad input gets the contract's own answer, from the whole platform over real sockets; nothing gives a 500."""

import asyncio
import json
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import httpx2
import pytest
import websockets
from reportlab.lib.pdfencrypt import StandardEncryption
from reportlab.pdfgen.canvas import Canvas

from tests.support.platform import Caller

MIB: Final = 1024 * 1024
EXECUTABLE: Final = b"MZ\x90\x00\x03\x00\x00\x00\x04\x00\x00\x00\xff\xff\x00\x00" + bytes(range(256)) * 8


def pdf(*, password: str | None = None) -> bytes:
    buffer = BytesIO()
    encryption = None if password is None else StandardEncryption(password, canPrint=0)
    canvas = Canvas(buffer, encrypt=encryption)
    canvas.drawString(72, 720, "The well of Kabuga is 20 metres deep.")
    canvas.showPage()
    canvas.save()
    return buffer.getvalue()


@pytest.fixture(scope="module")
def persona_id(owner: Caller) -> str:
    return owner.create_persona()


def send(caller: Caller, persona_id: str, content: bytes, name: str) -> httpx2.Response:
    return caller.http.post(
        "/knowledge/upload", data={"persona_id": persona_id}, files={"file": (name, BytesIO(content))}
    )


def refusal(answer: httpx2.Response) -> tuple[int, str]:
    """Status and code, of a problem that is whole."""
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["status"] == answer.status_code
    assert problem["request_id"] == answer.headers["x-request-id"]
    assert {"type", "title", "detail"} <= problem.keys()
    return answer.status_code, problem["code"]


@pytest.mark.parametrize(
    ("name", "content", "code"),
    [
        ("empty.txt", b"", "empty_file"),
        ("empty.pdf", b"", "empty_file"),
        ("truncated.pdf", pdf()[:120], "unreadable"),
        ("locked.pdf", pdf(password="ibanga"), "encrypted"),
    ],
)
def test_a_document_that_cannot_be_read_fails_with_its_reason(
    owner: Caller, name: str, content: bytes, code: str
) -> None:
    accepted = send(owner, owner.create_persona(), content, name)
    assert accepted.status_code == 202
    ended = owner.wait(accepted.json()["source_id"])
    assert (ended["status"], ended["error_code"]) == ("failed", code)
    assert ended["error_message"]
    assert (ended["chunk_count"], ended["searchable"]) == (0, "none")


def test_a_program_named_as_a_pdf_is_told_by_its_content(owner: Caller, persona_id: str) -> None:
    assert refusal(send(owner, persona_id, EXECUTABLE, "lesson.pdf")) == (415, "unsupported_type")


@pytest.fixture(scope="module")
def large_file(folder: Path) -> Iterator[Path]:
    """101 MB of text."""
    path = folder / "large.txt"
    with path.open("wb") as file:
        for _ in range(101):
            file.write(b"Kabuga\n" * (MIB // 7) + b"Kigali")
            file.write(b" " * (MIB - 7 * (MIB // 7) - 6))
    yield path
    path.unlink()


def form_around(path: Path, persona_id: str, boundary: str, *, most: int) -> Iterator[bytes]:
    """A multipart form in pieces, without a declared length."""
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="persona_id"\r\n\r\n{persona_id}\r\n'
    yield (head + f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="l.txt"\r\n\r\n').encode()
    with path.open("rb") as file:
        sent = 0
        while sent < most and (piece := file.read(min(MIB, most - sent))):
            sent += len(piece)
            yield piece
    yield f"\r\n--{boundary}--\r\n".encode()


def test_a_file_above_100_mb_is_refused_by_its_declared_length(
    owner: Caller, persona_id: str, large_file: Path
) -> None:
    assert refusal(owner.upload(persona_id, large_file)) == (413, "too_large")


def test_a_file_above_100_mb_is_refused_as_it_grows(owner: Caller, persona_id: str, large_file: Path) -> None:
    answer = owner.http.post(
        "/knowledge/upload",
        content=form_around(large_file, persona_id, "grenze", most=101 * MIB),
        headers={"Content-Type": "multipart/form-data; boundary=grenze"},
    )
    assert refusal(answer) == (413, "too_large")


def test_a_file_of_just_100_mb_is_taken_in(owner: Caller, large_file: Path) -> None:
    persona_id = owner.create_persona()
    answer = owner.http.post(
        "/knowledge/upload",
        content=form_around(large_file, persona_id, "grenze", most=100 * MIB),
        headers={"Content-Type": "multipart/form-data; boundary=grenze"},
    )
    assert answer.status_code == 202
    source_id = answer.json()["source_id"]
    assert owner.status(source_id)["file_size"] == 100 * MIB
    owner.http.delete(f"/knowledge/{source_id}").raise_for_status()


@pytest.mark.parametrize(
    "request_",
    [
        {"data": {"persona_id": "{persona}"}, "files": {"other": ("a.txt", b"text")}},
        {"data": {}, "files": {"file": ("a.txt", b"text")}},
        {"data": {"persona_id": "not-a-uuid"}, "files": {"file": ("a.txt", b"text")}},
        {"json": {"persona_id": "{persona}"}},
        {"content": b"--x\r\ncut off", "headers": {"Content-Type": "multipart/form-data; boundary=x"}},
        {"content": b"", "headers": {"Content-Type": "multipart/form-data"}},
    ],
    ids=["no file", "no persona", "malformed persona", "not a form", "cut off", "no boundary"],
)
def test_a_malformed_upload_is_refused_with_422(owner: Caller, persona_id: str, request_: dict[str, Any]) -> None:
    options = json.loads(
        json.dumps({key: value for key, value in request_.items() if key in {"data", "json"}}).replace(
            "{persona}", persona_id
        )
    ) | {key: value for key, value in request_.items() if key not in {"data", "json"}}
    assert refusal(owner.http.post("/knowledge/upload", **options)) == (422, "invalid")


@pytest.mark.parametrize(
    ("method", "path", "options", "expected"),
    [
        ("POST", "/ai/respond", {"json": {"user_message": "?" * 8_001}}, (422, "invalid")),
        ("POST", "/ai/respond", {"json": {"user_message": "a\u0000b"}}, (422, "invalid")),
        ("POST", "/ai/respond", {"json": {"user_message": ""}}, (422, "invalid")),
        ("POST", "/ai/respond", {"content": b'{"user_message": '}, (422, "invalid")),
        ("POST", "/ai/respond", {"content": b"[" * 100_000}, (422, "invalid")),
        ("POST", "/ai/respond", {"content": b" " * (2 * MIB)}, (413, "too_large")),
        ("GET", "/nothing/here", {}, (404, "not_found")),
        ("DELETE", "/ai/respond", {}, (405, "method_not_allowed")),
        ("GET", "/personas?limit=0", {}, (422, "invalid")),
        ("GET", "/personas?cursor=%00", {}, (422, "invalid")),
    ],
)
def test_a_bad_request_is_refused_with_the_code_of_the_contract(
    owner: Caller, persona_id: str, method: str, path: str, options: dict[str, Any], expected: tuple[int, str]
) -> None:
    if "json" in options:
        options = {"json": {"persona_id": persona_id, **options["json"]}}
    if "content" in options:
        options = options | {"headers": {"Content-Type": "application/json"}}
    assert refusal(owner.http.request(method, path, **options)) == expected


def test_without_a_token_there_is_401_and_how_to_sign_in(owner: Caller) -> None:
    answer = httpx2.get(f"{owner.url}/personas", trust_env=False)
    assert refusal(answer) == (401, "unauthenticated")
    assert answer.headers["www-authenticate"] == "Bearer"


def question(content: str) -> str:
    return json.dumps({"type": "user_message", "content": content, "client_msg_id": str(uuid4())})


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        ("no json", "bad_frame"),
        ("[]", "bad_frame"),
        ('{"type": "dance"}', "bad_frame"),
        ('{"type": "user_message"}', "bad_frame"),
        (question(""), "bad_frame"),
        (question("?" * 9_000), "too_long"),
    ],
    ids=["not json", "a list", "unknown type", "no content", "empty content", "9,000 characters"],
)
def test_a_bad_frame_is_answered_and_the_connection_stays(owner: Caller, persona_id: str, raw: str, code: str) -> None:
    async def talk() -> tuple[dict[str, Any], dict[str, Any]]:
        async with owner.chat(persona_id) as socket:
            await socket.until("session_info")
            await socket.connection.send(raw)
            refused = await socket.receive()
            await socket.send(type="ping")
            return refused, await socket.receive()

    refused, pong = asyncio.run(talk())
    assert (refused["type"], refused["code"]) == ("error", code)
    assert "turn_id" not in refused
    assert pong["type"] == "pong"


@pytest.mark.parametrize(("frame", "close_code"), [(b"\x00\x01", 1003), ("x" * (64 * 1024 + 1), 1009)])
def test_a_frame_of_the_wrong_kind_or_size_closes_the_socket(
    owner: Caller, persona_id: str, frame: bytes | str, close_code: int
) -> None:
    async def talk() -> int:
        async with owner.chat(persona_id) as socket:
            await socket.until("session_info")
            await socket.connection.send(frame)
            with pytest.raises(websockets.ConnectionClosed) as closed:
                await socket.until("pong")
            assert closed.value.rcvd is not None
            return closed.value.rcvd.code

    assert asyncio.run(talk()) == close_code
