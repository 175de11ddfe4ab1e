"""`bwenge rotate-keys`."""

from pathlib import Path

import pytest

from bwenge.apps.secrets import Secrets
from bwenge.apps.settings import Settings
from bwenge.apps.signing_keys import FILE_NAME
from bwenge.kit.data_directory import DataDirectoryLock
from tests.cli.conftest import Command


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """Of a platform that was started before."""
    Secrets.load(Settings(_env_file=None, data_dir=tmp_path / "data"))
    return tmp_path / "data"


async def test_the_command_rotates_while_the_platform_has_the_data_directory(bwenge: Command, data_dir: Path) -> None:
    with DataDirectoryLock(data_dir):
        ended = await bwenge("rotate-keys", "--data-dir", str(data_dir))

    assert ended.code == 0
    assert "signed with a new key" in ended.output
    assert (data_dir / FILE_NAME).exists()


async def test_the_command_names_a_damaged_count(bwenge: Command, data_dir: Path) -> None:
    (data_dir / FILE_NAME).write_text("{")
    ended = await bwenge("rotate-keys", "--data-dir", str(data_dir))

    assert (ended.code, FILE_NAME in ended.complaint) == (1, True)


async def test_two_rotations_at_once_are_not_mixed(bwenge: Command, data_dir: Path) -> None:
    with DataDirectoryLock(data_dir, name="signing.lock"):
        ended = await bwenge("rotate-keys", "--data-dir", str(data_dir))

    assert (ended.code, "is in use by process" in ended.complaint) == (1, True)


@pytest.mark.parametrize("environment", [{}, {"BWENGE_SECRET_KEY": "s" * 40}, {"DATABASE_URL": "postgresql://a@b/c"}])
async def test_a_mistaken_directory_is_told_and_nothing_is_made_of_it(
    bwenge: Command, tmp_path: Path, environment: dict[str, str]
) -> None:
    ended = await bwenge("rotate-keys", "--data-dir", "mistaken", **environment)

    assert ended.code == 1
    assert ended.complaint.startswith("bwenge: There are no keys in mistaken that this command may change.")
    assert "--data-dir" in ended.complaint
    assert list(tmp_path.iterdir()) == []


async def test_a_directory_whose_secret_is_a_setting_is_rotated(bwenge: Command, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()

    assert (await bwenge("rotate-keys", BWENGE_SECRET_KEY="s" * 40)).code == 0
    assert [path.name for path in (tmp_path / "data").iterdir() if path.suffix == ".json"] == [FILE_NAME]
