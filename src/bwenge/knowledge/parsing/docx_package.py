"""Refuses a DOCX that would expand without end, before anything of it is unpacked whole."""

import zipfile
from pathlib import Path
from typing import Final
from xml.parsers import expat

from bwenge.knowledge.parsing.base import FailureCode, ParseFailure

MAX_ENTRIES: Final = 5_000
MAX_UNPACKED_BYTES: Final = 256 * 1024 * 1024
MAX_XML_BYTES: Final = 64 * 1024 * 1024
"""Of one part. A tree of it takes about six times as much memory."""

_OLE_HEADER: Final = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_XML_SUFFIXES: Final = (".xml", ".rels")
_MIB: Final = 1024 * 1024
_CHUNK: Final = 16 * 1024


def check_package(path: Path) -> None:
    """Passes a package that may be opened.

    The sizes checked are those that the archive declares; `zipfile` never unpacks more than they say.

    Raises:
        ParseFailure: `encrypted` for an OLE file around an encrypted package, `too_large` or `too_complex` for what
            its directory declares, `unreadable` for a damaged archive or a document type declaration in a part:
            Word writes none, and entities are declared there.
    """
    with path.open("rb") as file:
        if file.read(len(_OLE_HEADER)) == _OLE_HEADER:
            raise ParseFailure(FailureCode.ENCRYPTED, "The Word document is protected by a password")
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            _check_sizes(entries)
            for entry in entries:
                _check_prolog(archive, entry)
    except (zipfile.BadZipFile, EOFError, OSError, NotImplementedError, RuntimeError, ValueError) as error:
        # RuntimeError is what an entry with a password gives, NotImplementedError an unknown compression.
        raise _unreadable() from error


def _check_sizes(entries: list[zipfile.ZipInfo]) -> None:
    if len(entries) > MAX_ENTRIES:
        raise ParseFailure(FailureCode.TOO_COMPLEX, f"The document has more than {MAX_ENTRIES} parts")
    xml_bytes = max((entry.file_size for entry in entries if _is_xml(entry)), default=0)
    if xml_bytes > MAX_XML_BYTES or sum(entry.file_size for entry in entries) > MAX_UNPACKED_BYTES:
        limit = f"{MAX_UNPACKED_BYTES // _MIB} MiB, or {MAX_XML_BYTES // _MIB} MiB of text"
        raise ParseFailure(FailureCode.TOO_LARGE, f"The document unpacks to more than {limit}")


def _check_prolog(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> None:
    """Reads a part as far as its first element. Parts that are not XML are pictures and such, which end at once."""
    prolog = _Prolog()
    parser = expat.ParserCreate()
    parser.StartDoctypeDeclHandler = prolog.on_doctype
    parser.StartElementHandler = prolog.on_element
    with archive.open(entry) as part:
        try:
            while not prolog.is_over and (chunk := part.read(_CHUNK)):
                parser.Parse(chunk, False)
        except expat.ExpatError as error:
            if _is_xml(entry) and not prolog.is_over:
                raise _unreadable() from error
    if prolog.has_doctype:
        raise ParseFailure(FailureCode.UNREADABLE, "The document declares entities of its own, which is not allowed")


class _Prolog:
    def __init__(self) -> None:
        self.is_over = False
        self.has_doctype = False

    def on_doctype(self, *_declaration: object) -> None:
        self.has_doctype = self.is_over = True

    def on_element(self, *_element: object) -> None:
        self.is_over = True


def _is_xml(entry: zipfile.ZipInfo) -> bool:
    return entry.filename.lower().endswith(_XML_SUFFIXES)


def _unreadable() -> ParseFailure:
    return ParseFailure(FailureCode.UNREADABLE, "The file is not a Word document that can be read")
