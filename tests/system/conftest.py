"""One running platform a module, in a directory of its own."""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.support.platform import Caller, PlatformProcess
from tests.system.stored import StoredState
from tests.system.textbook import write_textbook


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    # Not below pytest's own folder: each session of pytest resets the access list of that.
    with TemporaryDirectory(prefix="bwenge-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


@pytest.fixture(scope="module")
def data_dir(folder: Path) -> Path:
    return folder / "data"


@pytest.fixture(scope="module")
def stored(data_dir: Path) -> StoredState:
    return StoredState(data_dir)


@pytest.fixture(scope="module")
def platform(data_dir: Path) -> Iterator[PlatformProcess]:
    with PlatformProcess(data_dir) as platform:
        yield platform


@pytest.fixture(scope="module")
def owner(platform: PlatformProcess) -> Iterator[Caller]:
    owner = Caller.register(platform.url)
    with owner.http:
        yield owner


@pytest.fixture(scope="module")
def textbook(folder: Path) -> Path:
    return write_textbook(folder / "villages.pdf")
