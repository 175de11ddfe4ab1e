"""Multipart uploads, read as they arrive: the file goes to disk and its hash along with it, never whole into memory."""

import hashlib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Final

import structlog
from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser, parse_options_header

from bwenge.kit.blobs.store import StorageUnavailable
from bwenge.kit.ids import new_id
from bwenge.kit.storable import storable
from bwenge.knowledge.errors import FileTooLarge, MalformedUpload
from bwenge.knowledge.service import ReceivedFile

_log = structlog.get_logger(__name__)

MAX_FILE_BYTES: Final = 100 * 1024 * 1024
MAX_FORM_BYTES: Final = 64 * 1024
"""What headers, boundaries and the other fields may take beside the file."""

_MAX_FIELD_BYTES: Final = 4 * 1024
_MAX_FIELDS: Final = 16
_DRAINED_BYTES: Final = 32 * 1024 * 1024
"""How much of a refused body is still read, so that the refusal reaches a client that is still sending."""


@dataclass(frozen=True, slots=True)
class UploadForm:
    file: ReceivedFile
    fields: Mapping[str, str]


@asynccontextmanager
async def receive_upload(
    body: AsyncIterator[bytes], *, content_type: str, content_length: int | None, spool: Path
) -> AsyncIterator[UploadForm]:
    """Read a form with one part named `file`; its copy on disk lives as long as the block.

    Raises:
        FileTooLarge: by its declared length, or as soon as it has grown too large.
        MalformedUpload: not a multipart form, cut off, without a file, with one field twice, or with more fields than
            any client sends.
        StorageUnavailable: the local disk does not take it.
    """
    path = spool / new_id().hex
    try:
        yield (await _spool(path, body, _boundary(content_type), content_length)).finish(path)
    finally:
        path.unlink(missing_ok=True)


async def _spool(path: Path, body: AsyncIterator[bytes], boundary: bytes, content_length: int | None) -> "_FormReader":
    try:
        with path.open("xb") as file:
            return await _read(body, boundary, file, content_length)
    except OSError as error:
        _log.exception("upload_not_spooled")
        await _drain(body)
        raise StorageUnavailable from error


async def _read(
    body: AsyncIterator[bytes], boundary: bytes, file: BinaryIO, content_length: int | None
) -> "_FormReader":
    reader = _FormReader(file)
    parser = MultipartParser(boundary, reader.callbacks())  # type: ignore[arg-type]  # its TypedDict names every event
    if content_length is not None and content_length > MAX_FILE_BYTES + MAX_FORM_BYTES:
        await _drain(body)
        raise FileTooLarge
    received = 0
    try:
        async for piece in body:
            received += len(piece)
            parser.write(piece)
            if reader.file_size > MAX_FILE_BYTES or received > MAX_FILE_BYTES + MAX_FORM_BYTES:
                raise FileTooLarge
        parser.finalize()
    except FileTooLarge:
        await _drain(body)
        raise
    except MultipartParseError as error:
        raise MalformedUpload from error
    return reader


async def _drain(body: AsyncIterator[bytes]) -> None:
    drained = 0
    async for piece in body:
        drained += len(piece)
        if drained > _DRAINED_BYTES:
            return


def _boundary(content_type: str) -> bytes:
    kind, options = parse_options_header(content_type)
    boundary = options.get(b"boundary", b"")
    if kind != b"multipart/form-data" or not 1 <= len(boundary) <= 70:
        raise MalformedUpload
    return boundary


@dataclass
class _FormReader:
    """Takes the parser's events; remembers fields, writes the file."""

    file: BinaryIO
    file_size: int = 0
    file_name: str | None = None
    ended: bool = False
    fields: dict[str, str] = field(default_factory=dict)
    _hash: "hashlib._Hash" = field(default_factory=hashlib.sha256)
    _header_name: bytearray = field(default_factory=bytearray)
    _header_value: bytearray = field(default_factory=bytearray)
    _disposition: bytes = b""
    _part: str = ""
    _value: bytearray = field(default_factory=bytearray)

    def callbacks(self) -> dict[str, object]:
        return {
            "on_part_begin": self._begin_part,
            "on_header_field": lambda data, start, end: self._take(self._header_name, data[start:end]),
            "on_header_value": lambda data, start, end: self._take(self._header_value, data[start:end]),
            "on_header_end": self._end_header,
            "on_headers_finished": self._end_headers,
            "on_part_data": lambda data, start, end: self._data(data[start:end]),
            "on_part_end": self._end_part,
            "on_end": self._end,
        }

    def finish(self, path: Path) -> UploadForm:
        if not self.ended or self.file_name is None:
            raise MalformedUpload
        received = ReceivedFile(path, self.file_name, self.file_size, self._hash.hexdigest())
        return UploadForm(received, self.fields)

    def _begin_part(self) -> None:
        self._disposition, self._part = b"", ""
        self._value.clear()
        self._header_name.clear()
        self._header_value.clear()

    def _take(self, target: bytearray, piece: bytes) -> None:
        target += piece
        if len(target) > _MAX_FIELD_BYTES:
            raise MalformedUpload

    def _end_header(self) -> None:
        if bytes(self._header_name).lower() == b"content-disposition":
            self._disposition = bytes(self._header_value)
        self._header_name.clear()
        self._header_value.clear()

    def _end_headers(self) -> None:
        _, options = parse_options_header(self._disposition)
        self._part = options.get(b"name", b"").decode("utf-8", "replace")
        if self._part == "file":
            if self.file_name is not None:
                raise MalformedUpload
            self.file_name = _safe_name(options.get(b"filename", b"").decode("utf-8", "replace"))
        elif not self._part or self._part in self.fields or len(self.fields) >= _MAX_FIELDS:
            raise MalformedUpload

    def _data(self, piece: bytes) -> None:
        if self._part != "file":
            self._take(self._value, piece)
            return
        self.file_size += len(piece)
        if self.file_size <= MAX_FILE_BYTES:
            self._hash.update(piece)
            self.file.write(piece)

    def _end_part(self) -> None:
        if self._part != "file":
            self.fields[self._part] = storable(self._value.decode("utf-8", "replace"))

    def _end(self) -> None:
        self.ended = True


def _safe_name(name: str) -> str:
    """The last part of the name, for showing; it never becomes a path."""
    last = storable(name).replace("\\", "/").rsplit("/", 1)[-1]
    return "".join(character for character in last if character.isprintable()).strip()[:255] or "file"
