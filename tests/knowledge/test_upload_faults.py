"""POST /knowledge/upload where the disk or the store does not take the file: told as what passes, with nothing left."""

from pathlib import Path
from typing import Any
from uuid import UUID

import obstore
import pytest
from obstore.exceptions import GenericError
from sqlalchemy import text

from tests.support.application import Application, Person
from tests.support.databases import SavepointDatabase
from tests.support.feature_app import code_of

TEXT = b"The fare from Kigali to Huye is 3,200 francs."


@pytest.fixture
async def owner(application: Application) -> Person:
    return await application.register()


@pytest.fixture
async def persona_id(application: Application, owner: Person) -> UUID:
    return await application.create_persona(owner)


async def refused(application: Application, owner: Person, persona_id: UUID, *, content: bytes = TEXT) -> None:
    answer = await application.upload(owner, persona_id, content)
    assert code_of(answer) == (503, "unavailable")
    assert int(answer.headers["retry-after"]) > 0
    assert list(application.platform.spool.iterdir()) == []


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each new file is on a device without room."""
    opened = Path.open

    def without_room(path: Path, mode: str = "r", **named: Any) -> Any:
        return opened(Path("/dev/full"), "wb") if mode == "xb" else opened(path, mode, **named)

    monkeypatch.setattr(Path, "open", without_room)


@pytest.mark.parametrize("size", [10, 10_000_000], ids=["at the end", "on the way"])
@pytest.mark.usefixtures("full_disk")
async def test_an_upload_for_which_the_local_disk_has_no_room_may_be_sent_again(
    application: Application, owner: Person, persona_id: UUID, size: int
) -> None:
    await refused(application, owner, persona_id, content=b"x" * size)


async def test_an_upload_whose_local_folder_is_gone_may_be_sent_again(
    application: Application, owner: Person, persona_id: UUID, tmp_path: Path
) -> None:
    application.app.state.spool = tmp_path / "gone"
    await refused(application, owner, persona_id)


@pytest.mark.parametrize("error", [GenericError("the store is away"), OSError(28, "No space left on device")])
async def test_an_upload_that_the_store_does_not_take_may_be_sent_again(
    application: Application,
    owner: Person,
    persona_id: UUID,
    database: SavepointDatabase,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
) -> None:
    async def refuse(*_given: Any, **_named: Any) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(obstore, "put_async", refuse)
        await refused(application, owner, persona_id)
    async with database.superuser() as connection:
        assert await connection.scalar(text("SELECT count(*) FROM knowledge_sources")) == 0
    assert (await application.upload(owner, persona_id, TEXT)).status_code == 202
