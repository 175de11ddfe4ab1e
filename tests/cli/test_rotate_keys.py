"""`bwenge rotate-keys`."""

from pathlib import Path

from bwenge.apps.signing_keys import FILE_NAME
from bwenge.kit.data_directory import DataDirectoryLock
from tests.cli.conftest import Command


async def test_the_command_rotates_while_the_platform_has_the_data_directory(bwenge: Command, tmp_path: Path) -> None:
    with DataDirectoryLock(tmp_path / "data"):
        ended = await bwenge("rotate-keys", "--data-dir", str(tmp_path / "data"))

    assert ended.code == 0
    assert "signed with a new key" in ended.output
    assert (tmp_path / "data" / FILE_NAME).exists()


async def test_the_command_names_a_damaged_count(bwenge: Command, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / FILE_NAME).write_text("{")
    ended = await bwenge("rotate-keys", "--data-dir", str(tmp_path / "data"))

    assert (ended.code, FILE_NAME in ended.complaint) == (1, True)


async def test_two_rotations_at_once_are_not_mixed(bwenge: Command, tmp_path: Path) -> None:
    with DataDirectoryLock(tmp_path / "data", name="signing.lock"):
        ended = await bwenge("rotate-keys", "--data-dir", str(tmp_path / "data"))

    assert (ended.code, "is in use by process" in ended.complaint) == (1, True)
