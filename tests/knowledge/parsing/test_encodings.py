import pytest

from bwenge.knowledge.parsing.encodings import decode, detect_encoding

FRENCH = "Où est l’élève ? À l’école, près de la forêt, où l’été s’achève. " * 4


@pytest.mark.parametrize("codec", ["utf-8", "utf-8-sig", "utf-16", "utf-32", "cp1252"])
def test_a_text_is_decoded_whole(codec: str) -> None:
    assert decode(FRENCH.encode(codec)) == (FRENCH, True)


def test_a_sample_may_end_inside_a_character() -> None:
    assert detect_encoding(FRENCH.encode() + "é".encode()[:1]) == "utf-8"


@pytest.mark.parametrize(
    "content", [b"a\x00b", b"\x7fELF\x02\x01\x01", b"\x89PNG\r\n\x1a\n\x00", bytes(range(256)) * 4]
)
def test_binary_content_has_no_encoding(content: bytes) -> None:
    assert detect_encoding(content) is None


def test_a_mark_that_the_content_contradicts_is_not_believed() -> None:
    assert detect_encoding(b"\xef\xbb\xbf\xff\xfe\xfa") is None


def test_a_broken_character_beyond_the_sample_is_replaced() -> None:
    content = b"a" * 70_000 + b"\xff"
    assert decode(content) == ("a" * 70_000 + "\ufffd", False)
