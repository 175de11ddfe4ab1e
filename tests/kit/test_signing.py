"""Signed paths: opened as they were given out, for an hour, and by no other key."""

from urllib.parse import parse_qs, urlsplit

import pytest

from bwenge.kit.signing import PATH_LIFETIME_SECONDS, InvalidSignature, SignedPaths, Signer

PATH = "/things/1/file"


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


def signed(paths: SignedPaths) -> tuple[int, str]:
    query = parse_qs(urlsplit(paths.address_of(PATH)).query)
    return int(query["expires"][0]), query["signature"][0]


def test_an_address_is_good_for_an_hour() -> None:
    clock = Clock()
    paths = SignedPaths(Signer(b"k" * 32, clock=clock))
    expires, signature = signed(paths)
    clock.now += PATH_LIFETIME_SECONDS
    paths.verify(PATH, expires=expires, signature=signature)
    clock.now += 1
    with pytest.raises(InvalidSignature):
        paths.verify(PATH, expires=expires, signature=signature)


def test_another_path_time_signature_or_key_is_refused() -> None:
    paths = SignedPaths(Signer(b"k" * 32))
    expires, signature = signed(paths)
    for path, time, given, key in (
        ("/things/2/file", expires, signature, b"k"),
        (PATH, expires + 1, signature, b"k"),
        (PATH, expires, "é" + signature[1:], b"k"),
        (PATH, expires, signature, b"o"),
    ):
        with pytest.raises(InvalidSignature):
            SignedPaths(Signer(key * 32)).verify(path, expires=time, signature=given)


def test_a_message_of_another_kind_signs_no_path() -> None:
    signer = Signer(b"k" * 32)
    other = signer.sign(PATH, lifetime_seconds=60)
    with pytest.raises(InvalidSignature):
        SignedPaths(signer).verify(PATH, expires=other.expires, signature=other.signature)
