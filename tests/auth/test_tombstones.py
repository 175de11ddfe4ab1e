"""The file that says which organisations were erased."""

from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bwenge.auth.tombstones import TombstoneFile
from bwenge.kit.ids import new_id


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "erased.jsonl"


async def test_what_is_kept_is_read_back_by_another_process(path: Path) -> None:
    first, second = {new_id(): new_id()}, {new_id(): new_id()}
    await TombstoneFile(path).keep(first)
    await TombstoneFile(path).keep(second)
    assert await TombstoneFile(path).read() == first | second
    assert path.stat().st_mode & 0o777 == 0o600


async def test_keeping_twice_is_keeping_once(path: Path) -> None:
    tombstone = {new_id(): new_id()}
    for _ in range(2):
        await TombstoneFile(path).keep(tombstone)
    assert len(path.read_text().splitlines()) == 1


async def test_without_a_file_nothing_was_erased(path: Path) -> None:
    assert await TombstoneFile(path).read() == {}
    await TombstoneFile(path).keep({})
    assert not path.exists()


@given(cut=st.integers(min_value=1, max_value=100))
async def test_a_line_that_a_crash_cut_short_spoils_no_other(
    tmp_path_factory: pytest.TempPathFactory, cut: int
) -> None:
    path = tmp_path_factory.mktemp("tombstones") / "erased.jsonl"
    whole, late = {new_id(): new_id()}, {new_id(): new_id()}
    await TombstoneFile(path).keep(whole)
    await TombstoneFile(path).keep({UUID(int=1): UUID(int=2)})
    path.write_bytes(path.read_bytes()[: -(1 + cut)])
    await TombstoneFile(path).keep(late)
    assert await TombstoneFile(path).read() == whole | late


@pytest.mark.parametrize("line", ["[]", "17", '{"org_id": 5, "reference": 6}', '{"org_id": "x"}', "\ufffd"])
async def test_a_line_of_anything_else_is_passed_over(path: Path, line: str) -> None:
    tombstone = {new_id(): new_id()}
    await TombstoneFile(path).keep(tombstone)
    with path.open("a", encoding="utf-8") as file:
        file.write(f"{line}\n")
    assert await TombstoneFile(path).read() == tombstone
