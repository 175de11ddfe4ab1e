"""What a file is, by its content and not by its name."""

import re
import struct
from pathlib import Path
from typing import BinaryIO, Final

from bwenge.kit.errors import UnsupportedType
from bwenge.knowledge.parsing.base import MediaType
from bwenge.knowledge.parsing.encodings import SAMPLE_BYTES, detect_encoding

__all__ = ["MediaType", "UnsupportedMedia", "sniff"]

_PDF_HEADER: Final = b"%PDF-"
_PDF_HEADER_WITHIN: Final = 1024
_EXECUTABLES: Final = (b"MZ", b"\x7fELF")
_ZIP_LOCAL_HEADER: Final = b"PK\x03\x04"
_OLE_HEADER: Final = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_OLE_ENCRYPTED: Final = "EncryptedPackage".encode("utf-16-le")

# PKWARE APPNOTE 4.3.16: the end of central directory record is 22 bytes and a comment of at most 65,535.
_END_OF_DIRECTORY: Final = struct.Struct("<4s4H2LH")
_END_SIGNATURE: Final = b"PK\x05\x06"
# PKWARE APPNOTE 4.3.12: one entry of the central directory, up to the file name.
_DIRECTORY_ENTRY: Final = struct.Struct("<4s6H3L5H2L")
_ENTRY_SIGNATURE: Final = b"PK\x01\x02"
_MAX_DIRECTORY_BYTES: Final = 1024 * 1024

_CONTENT_TYPES: Final = b"[Content_Types].xml"
# Word names it word/document.xml; its online editions also word/document2.xml.
_WORD_DOCUMENT: Final = re.compile(rb"word/document\d*\.xml")
_OTHER_OFFICE: Final = (b"xl/", b"ppt/")

_SUFFIXES: Final = {
    ".pdf": MediaType.PDF,
    ".docx": MediaType.DOCX,
    ".md": MediaType.MARKDOWN,
    ".markdown": MediaType.MARKDOWN,
}


class UnsupportedMedia(UnsupportedType):
    title = "The file is none of PDF, DOCX, plain text or Markdown"


def sniff(path: Path, *, name: str | None = None) -> MediaType:
    """The media type of a file's content.

    The name (`name`, or else the path's own) decides only between plain text and Markdown, which look alike, and
    for an empty file, which looks like nothing: that one is accepted as its suffix says (text by default), so that
    its source can exist and fail with `empty_file`. A damaged file is accepted as what it begins as and fails in
    parsing; a password-protected Word file (an OLE file around an encrypted package) is accepted as DOCX likewise.
    Reads at most about 1.2 MB, save that an OLE file is searched whole.

    Raises:
        UnsupportedMedia: for everything else.
    """
    suffix = Path(name or path.name).suffix.lower()
    with path.open("rb") as file:
        head = file.read(SAMPLE_BYTES)
        if not head:
            return _SUFFIXES.get(suffix, MediaType.TEXT)
        if _is_pdf(head):
            return MediaType.PDF
        if _is_docx(file, head):
            return MediaType.DOCX
    if not head.startswith((_ZIP_LOCAL_HEADER, _OLE_HEADER, *_EXECUTABLES)) and detect_encoding(head) is not None:
        return MediaType.MARKDOWN if _SUFFIXES.get(suffix) is MediaType.MARKDOWN else MediaType.TEXT
    raise UnsupportedMedia


def _is_pdf(head: bytes) -> bool:
    """Viewers find the header anywhere in the first KiB; a program or an archive that hides one there is no PDF."""
    if head.startswith((_ZIP_LOCAL_HEADER, *_EXECUTABLES)):
        return False
    if _PDF_HEADER not in head[:_PDF_HEADER_WITHIN]:
        return False
    # A text that mentions the header in the middle of a line is a text.
    line = head[: head.index(_PDF_HEADER)].replace(b"\r", b"\n").rpartition(b"\n")[2]
    return not line.strip(b"% \t\xef\xbb\xbf") or detect_encoding(head) is None


def _is_docx(file: BinaryIO, head: bytes) -> bool:
    if head.startswith(_OLE_HEADER):
        file.seek(0)
        return _contains(file, _OLE_ENCRYPTED)
    if not head.startswith(_ZIP_LOCAL_HEADER):
        return False
    names = _archive_names(file)
    if names is None:
        return _begins_as_docx(head)
    return _CONTENT_TYPES in names and any(_WORD_DOCUMENT.fullmatch(name) for name in names)


def _begins_as_docx(head: bytes) -> bool:
    """For an archive whose directory was lost: what its first local headers name."""
    if _CONTENT_TYPES not in head and b"word/" not in head:
        return False
    return not any(folder in head for folder in _OTHER_OFFICE)


def _archive_names(file: BinaryIO) -> frozenset[bytes] | None:
    """The names in a ZIP's central directory: None when it is lost, empty when it is too large to be a document's.

    Read by hand because `zipfile` makes an object for each of any number of entries, and this runs where
    requests are served.
    """
    size = file.seek(0, 2)
    file.seek(max(0, size - _END_OF_DIRECTORY.size - 0xFFFF))
    tail_start = file.tell()
    tail = file.read()
    at = tail.rfind(_END_SIGNATURE)
    if at < 0 or at + _END_OF_DIRECTORY.size > len(tail):
        return None
    directory_size = _END_OF_DIRECTORY.unpack_from(tail, at)[5]
    if directory_size > _MAX_DIRECTORY_BYTES:
        return frozenset()
    # Counted back from the record and not from the offset in it, which is wrong where something precedes the archive.
    start = tail_start + at - directory_size
    if start < 0:
        return None
    file.seek(start)
    return _directory_names(file.read(directory_size))


def _directory_names(directory: bytes) -> frozenset[bytes] | None:
    names: set[bytes] = set()
    at = 0
    while at + _DIRECTORY_ENTRY.size <= len(directory):
        entry = _DIRECTORY_ENTRY.unpack_from(directory, at)
        if entry[0] != _ENTRY_SIGNATURE:
            return None
        name_length, extra_length, comment_length = entry[10:13]
        at += _DIRECTORY_ENTRY.size
        names.add(directory[at : at + name_length])
        at += name_length + extra_length + comment_length
    return frozenset(names)


def _contains(file: BinaryIO, needle: bytes) -> bool:
    kept = b""
    while piece := file.read(1024 * 1024):
        if needle in kept + piece:
            return True
        kept = piece[-len(needle) :]
    return False
