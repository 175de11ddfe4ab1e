"""The master secret: no half of one is ever used."""

import os
from pathlib import Path
from typing import Any

import pytest

from bwenge.apps.secrets import DamagedSecret, Secrets
from bwenge.apps.settings import Settings


def settings(folder: Path) -> Settings:
    return Settings(_env_file=None, data_dir=folder)


@pytest.mark.parametrize("content", [b"", b"\n", b"short", b"k" * 31])
def test_a_secret_that_was_cut_short_is_refused_and_left_as_it_is(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "secret.key").write_bytes(content)
    with pytest.raises(DamagedSecret, match="is damaged"):
        Secrets.load(settings(tmp_path))
    assert (tmp_path / "secret.key").read_bytes() == content


def test_a_crash_while_the_secret_is_written_leaves_no_half_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(*_given: Any) -> None:
        raise OSError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", crash)
        with pytest.raises(OSError, match="disk is full"):
            Secrets.load(settings(tmp_path))
    assert list(tmp_path.iterdir()) == []
    assert Secrets.load(settings(tmp_path)).superuser_password


def test_the_data_directory_is_made_for_its_owner_alone(tmp_path: Path) -> None:
    Secrets.load(settings(tmp_path / "new"))
    assert (tmp_path / "new").stat().st_mode & 0o077 == 0


def test_another_installation_has_other_secrets(tmp_path: Path) -> None:
    one, two = Secrets.load(settings(tmp_path / "one")), Secrets.load(settings(tmp_path / "two"))
    assert one.signing_key_pem() != two.signing_key_pem()
    assert one.readable_password("demo owner") != two.readable_password("demo owner")
