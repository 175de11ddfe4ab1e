"""Which operations take an `Idempotency-Key`, and what a browser may see of it."""

from pathlib import Path
from typing import Any, Final

import pytest

from tests.support.application import PASSWORD, Application, open_application
from tests.support.databases import SavepointDatabase

CREATED: Final = {"201", "202"}
MAKING_NOTHING: Final = {"/auth/password/forgot"}
PAGE: Final = "https://school.example"


@pytest.fixture
def document(application: Application) -> dict[str, Any]:
    return application.app.openapi()


def test_every_creating_write_takes_a_key_and_says_what_it_refuses(document: dict[str, Any]) -> None:
    creating = {
        path: operation["post"]
        for path, operation in document["paths"].items()
        if "post" in operation and CREATED & operation["post"]["responses"].keys() and path not in MAKING_NOTHING
    }
    assert {"/auth/register", "/personas", "/knowledge/upload"} <= creating.keys()
    for path, operation in creating.items():
        taken = {parameter["name"] for parameter in operation.get("parameters", ())}
        assert "Idempotency-Key" in taken, path
        assert {"409", "422"} <= operation["responses"].keys(), path


async def test_a_page_of_another_origin_may_read_that_an_answer_is_repeated(
    database: SavepointDatabase, tmp_path: Path
) -> None:
    async with open_application(database, tmp_path, cors_origins=[PAGE]) as application:
        body = {"name": "Aline", "email": "aline@school.example", "password": PASSWORD, "org_name": "School"}
        headers = {"Origin": PAGE, "Idempotency-Key": "4b0e"}
        first, again = [await application.client.post("/auth/register", headers=headers, json=body) for _ in range(2)]
    assert first.content == again.content
    assert again.headers["idempotency-replayed"] == "true"
    assert "Idempotency-Replayed" in again.headers["access-control-expose-headers"]
