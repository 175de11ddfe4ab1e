"""Exports: who may ask for one, who may open it, and what becomes of it."""

import io
import json
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select, update

from bwenge.auth.export_archive import MAX_NAME_BYTES, safe_name
from bwenge.auth.exports import EXPIRE, EXPORT
from bwenge.auth.models import AuditRecord
from bwenge.kit.blobs.models import BlobReference, BlobRow
from bwenge.kit.blobs.store import BlobKey, StorageUnavailable
from bwenge.kit.db import PLATFORM
from bwenge.kit.identity import Role
from bwenge.kit.jobs.kinds import AttemptFailed
from bwenge.kit.jobs.models import Job
from tests.support.application import PASSWORD, Application, Person
from tests.support.custody import claim, do_jobs
from tests.support.databases import SavepointDatabase
from tests.support.feature_app import code_of


@pytest.fixture
async def owner(application: Application) -> Person:
    return await application.register()


async def ask(application: Application, person: Person) -> str:
    answer = await application.client.post(f"/orgs/{person.org_id}/export", headers=person.headers)
    assert answer.status_code == 202, answer.text
    job_id: str = answer.json()["job_id"]
    return job_id


async def told(application: Application, person: Person, job_id: str) -> dict[str, Any]:
    answer = await application.client.get(f"/jobs/{job_id}", headers=person.headers)
    assert answer.status_code == 200, answer.text
    job: dict[str, Any] = answer.json()
    return job


async def with_role(application: Application, owner: Person, person: Person, role: Role) -> Person:
    """The person after the owner gave them the role, with a token that says so."""
    path = f"/orgs/{owner.org_id}/members/{person.user_id}"
    changed = await application.client.patch(path, headers=owner.headers, json={"role": role})
    login = await application.client.post(
        "/auth/login", json={"identifier": changed.json()["username"], "password": PASSWORD}
    )
    return replace(person, role=role, headers={"Authorization": f"Bearer {login.json()['access_token']}"})


async def made_export(application: Application, person: Person) -> str:
    """The signed address of an export."""
    job_id = await ask(application, person)
    await do_jobs(application, EXPORT)
    address: str = (await told(application, person, job_id))["result_url"]
    return address


async def test_an_export_that_waits_is_told_without_a_result(application: Application, owner: Person) -> None:
    job_id = await ask(application, owner)
    assert await told(application, owner, job_id) == {
        "job_id": job_id,
        "kind": EXPORT,
        "state": "queued",
        "progress": 0.0,
    }


async def test_an_export_that_is_made_opens_as_an_attachment(application: Application, owner: Person) -> None:
    job_id = await ask(application, owner)
    await do_jobs(application, EXPORT)
    job = await told(application, owner, job_id)
    assert (job["state"], job["progress"]) == ("done", 1.0)
    opened = await application.client.get(job["result_url"])
    assert opened.status_code == 200
    assert opened.headers["content-type"] == "application/zip"
    assert opened.headers["content-disposition"].startswith("attachment;")
    assert int(opened.headers["content-length"]) == len(opened.content)
    assert zipfile.ZipFile(io.BytesIO(opened.content)).testzip() is None


async def test_two_requests_at_once_are_one_export(application: Application, owner: Person) -> None:
    first = await ask(application, owner)
    assert await ask(application, owner) == first
    await do_jobs(application, EXPORT)
    assert await ask(application, owner) != first


async def test_who_asked_for_it_is_noted(application: Application, owner: Person) -> None:
    job_id = await ask(application, owner)
    async with application.platform.resources.database.unit_of_work(owner.org_id) as session:
        entry = (await session.scalars(select(AuditRecord))).one()
    assert (entry.action, entry.actor_id, entry.target_id) == (
        "organisation.export_requested",
        owner.user_id,
        job_id,
    )


async def test_nobody_else_is_told_of_it(application: Application, owner: Person) -> None:
    job_id = await ask(application, owner)
    for person in (await application.add_member(owner.org_id, Role.OWNER), await application.register()):
        answer = await application.client.get(f"/jobs/{job_id}", headers=person.headers)
        assert code_of(answer) == (404, "not_found")
    assert code_of(await application.client.get(f"/jobs/{job_id}")) == (401, "unauthenticated")


async def test_an_owner_who_was_demoted_is_told_of_it_no_more_until_they_are_owner_again(
    application: Application, owner: Person
) -> None:
    second = await application.add_member(owner.org_id, Role.OWNER)
    job_id = await ask(application, second)
    await do_jobs(application, EXPORT)
    assert "result_url" in await told(application, second, job_id)
    for role in (Role.USER, Role.ADMIN):
        demoted = await with_role(application, owner, second, role)
        answer = await application.client.get(f"/jobs/{job_id}", headers=demoted.headers)
        assert code_of(answer) == (404, "not_found")
        old = await application.client.get(f"/jobs/{job_id}", headers=second.headers)
        assert code_of(old) == (401, "unauthenticated")
    assert "result_url" in await told(application, await with_role(application, owner, second, Role.OWNER), job_id)


@pytest.mark.parametrize(
    ("change", "refusal"),
    [
        ({"signature": "a" * 43}, (403, "invalid_signature")),
        ({"expires": "99999999999"}, (403, "invalid_signature")),
        ({"signature": None}, (403, "invalid_signature")),
        ({"expires": None}, (403, "invalid_signature")),
        ({"expires": None, "signature": None}, (401, "unauthenticated")),
        ({"expires": "soon"}, (422, "invalid")),
    ],
)
async def test_only_the_address_as_it_was_told_opens_it(
    application: Application, owner: Person, change: dict[str, str | None], refusal: tuple[int, str]
) -> None:
    address = urlsplit(await made_export(application, owner))
    query = {name: values[0] for name, values in parse_qs(address.query).items()} | change
    given_query = {name: value for name, value in query.items() if value is not None}
    answer = await application.client.get(address.path, params=given_query, headers=owner.headers)
    assert code_of(answer) == refusal


async def test_an_address_opens_no_other_export(application: Application, owner: Person) -> None:
    address = await made_export(application, owner)
    other = await made_export(application, await application.register())
    answer = await application.client.get(f"{urlsplit(other).path}?{urlsplit(address).query}")
    assert code_of(answer) == (403, "invalid_signature")


async def test_after_a_week_the_archive_is_gone(
    application: Application, database: SavepointDatabase, owner: Person, tmp_path: Path
) -> None:
    address = await made_export(application, owner)
    async with database.superuser() as connection:
        row = (await connection.execute(select(Job.__table__).where(Job.kind == EXPIRE))).mappings().one()
    assert 6.9 < (row["run_after"] - row["created_at"]).total_seconds() / 86_400 < 7.1

    await do_jobs(application, EXPIRE)

    assert code_of(await application.client.get(address)) == (404, "not_found")
    job_id = urlsplit(address).path.split("/")[-2]
    assert "result_url" not in await told(application, owner, job_id)
    assert [path for path in (tmp_path / "blobs").rglob("*") if path.is_file()] == []
    async with database.superuser() as connection:
        for table in (BlobRow.__table__, BlobReference.__table__):
            assert (await connection.execute(select(table))).all() == []


async def test_from_the_deletion_of_the_organisation_on_its_archive_opens_no_more(
    application: Application, owner: Person
) -> None:
    address = await made_export(application, owner)
    await application.client.delete(f"/orgs/{owner.org_id}", headers=owner.headers)
    assert code_of(await application.client.get(address)) == (404, "not_found")


async def test_an_archive_that_the_store_lost_is_not_found(
    application: Application, owner: Person, tmp_path: Path
) -> None:
    address = await made_export(application, owner)
    for path in (tmp_path / "blobs").rglob("*"):
        if path.is_file():
            path.unlink()
    assert code_of(await application.client.get(address)) == (404, "not_found")


async def test_an_export_holds_no_earlier_export(application: Application, owner: Person) -> None:
    await made_export(application, owner)
    opened = await application.client.get(await made_export(application, owner))
    manifest = json.loads(zipfile.ZipFile(io.BytesIO(opened.content)).read("manifest.json"))
    assert manifest["files"] == []
    assert "earlier exports" in {part["what"] for part in manifest["left_out"]}


async def test_a_file_that_the_store_lost_is_named_as_missing(
    application: Application, owner: Person, tmp_path: Path
) -> None:
    persona_id = await application.create_persona(owner)
    await application.add_document(owner, persona_id, b"The fare is 3,200 francs.", name="fares.txt")
    for path in (tmp_path / "blobs").rglob("*"):
        if path.is_file():
            path.unlink()
    opened = await application.client.get(await made_export(application, owner))
    archive = zipfile.ZipFile(io.BytesIO(opened.content))
    [file] = json.loads(archive.read("manifest.json"))["files"]
    assert file["path"] is None
    assert "fares.txt" in archive.read("README.txt").decode()


async def test_without_room_the_attempt_fails_by_its_code_and_the_next_makes_it(
    application: Application, owner: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = await ask(application, owner)
    job = await claim(application, EXPORT)
    assert job is not None
    exports = application.platform.custody.exports

    async def refuse(_key: BlobKey, _file: Path) -> None:
        raise StorageUnavailable

    with monkeypatch.context() as patched:
        patched.setattr(application.platform.resources.blobs, "put", refuse)
        with pytest.raises(AttemptFailed) as failure:
            await exports.run(job)
    assert failure.value.code == "storage_failed"
    assert "result_url" not in await told(application, owner, job_id)
    async with application.platform.resources.database.unit_of_work(PLATFORM) as session:
        await session.execute(update(Job).where(Job.id == UUID(job_id)).values(state="queued"))
    await do_jobs(application, EXPORT)
    address = (await told(application, owner, job_id))["result_url"]
    assert (await application.client.get(address)).status_code == 200


async def test_an_export_that_is_not_made_yet_does_not_open(application: Application, owner: Person) -> None:
    path = f"/orgs/{owner.org_id}/exports/{await ask(application, owner)}/file"
    answer = await application.client.get(application.platform.custody.paths.address_of(path))
    assert code_of(answer) == (404, "not_found")


@given(st.text(max_size=400))
def test_a_name_of_any_kind_becomes_one_part_of_a_path(name: str) -> None:
    safe = safe_name(name)
    assert safe
    assert len(safe.encode(errors="surrogatepass")) <= MAX_NAME_BYTES
    assert not set(safe) & set('/\\:*?"<>|\x00\n')
    assert safe not in {".", ".."}


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("../../etc/passwd", "_.._etc_passwd"),
        ("Imibare y'umwaka.pdf", "Imibare y'umwaka.pdf"),
        ("é" * 300 + ".docx", "é" * 97 + ".docx"),
        ("..", "_"),
    ],
)
def test_a_name_keeps_what_is_safe_of_it(name: str, safe: str) -> None:
    assert safe_name(name) == safe
