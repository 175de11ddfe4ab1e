"""Deleting an organisation leaves nothing of it, and its export, made before, held all of it."""

import hashlib
import io
import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import httpx2
import pytest
from sqlalchemy import delete, func, insert, select, update
from sqlalchemy.exc import NoResultFound

from bwenge.auth.erasure import ERASE, SWEEP
from bwenge.auth.exports import EXPORT
from bwenge.auth.models import AuditRecord, ErasedOrganization, Organization, User
from bwenge.kit.blobs import references
from bwenge.kit.blobs.store import BlobKey, BlobStore
from bwenge.kit.db import PLATFORM
from bwenge.kit.identity import Role
from bwenge.kit.ids import new_id
from bwenge.kit.jobs.models import Job
from bwenge.kit.jobs.queue import NewJob, enqueue
from bwenge.migrations.access import ACCESS
from bwenge.migrations.metadata import metadata
from bwenge.migrations.retention import DERIVED, RECORDS, tenant_catalogue
from tests.support.application import PASSWORD, Application, Person
from tests.support.custody import accept, claim, contents_of, do_jobs, files_below, offers_of, places_of
from tests.support.databases import SavepointDatabase
from tests.support.feature_app import code_of
from tests.support.tenant_rows import Row, new_row

TENANTS: Final = {name: access.tenant for name, access in ACCESS.items() if access.tenant is not None}
DOCUMENTS: Final = {
    "Ubumenyi 2026: ibinyabuzima.txt": b"Photosynthesis takes place in the chloroplasts of a leaf.",
    "notes.md": b"# Imibare\n\nA percentage is a fraction of one hundred.",
}
TOMBSTONES: Final = {"erased_organizations.id", "audit_log.target_id"}
"""All that may name an erased organisation, by its id alone."""
UNTIL_SWEPT: Final = TOMBSTONES | {"jobs.payload"}


@dataclass(frozen=True)
class FilledSchool:
    """An organisation with rows in every tenant table, members of each role, and uploaded documents."""

    owner: Person
    learner: Person
    refresh_token: str
    words: frozenset[str]
    """What gives it away: ids, names, addresses, and whatever else stands in its rows and in no other's."""


async def found_school(application: Application, database: SavepointDatabase) -> FilledSchool:
    owner = await application.register(name="Uwimana Jeanne d'Arc")
    learner = await application.add_member(owner.org_id, Role.USER)
    persona_id = await application.create_persona(owner, name=f"Mwalimu {owner.org_id.hex[-6:]}")
    for name, content in DOCUMENTS.items():
        await application.add_document(owner, persona_id, content + owner.org_id.bytes.hex().encode(), name=name)
    rows = await fill_tables(database, owner.org_id)
    async with database.superuser() as connection:
        users = (await connection.execute(select(User.__table__).where(User.org_id == owner.org_id))).mappings().all()
        school_name = await connection.scalar(select(Organization.name).where(Organization.id == owner.org_id))
    words = {str(owner.org_id), owner.org_id.hex, str(persona_id), str(school_name)}
    words |= {str(user[column]) for user in users for column in ("id", "email", "username") if user[column]}
    words |= {value for row in rows.values() for value in map(str, row.values()) if len(value) >= 16}
    login = await sign_in(application, next(user["email"] for user in users if user["id"] == owner.user_id))
    return FilledSchool(owner, learner, login.json()["refresh_token"], frozenset(words))


async def fill_tables(database: SavepointDatabase, org_id: UUID) -> dict[str, Row]:
    """Another row of the tenant in each of its tables, made from the metadata alone."""
    rows: dict[str, Row] = {"organizations": {"id": org_id}}
    async with database.superuser() as connection:
        for table in metadata.sorted_tables:
            if table.name in TENANTS and table.name != "organizations":
                rows[table.name] = new_row(table, org_id, parents=rows, tenant_column=TENANTS[table.name])
                await connection.execute(insert(table).values(rows[table.name]))
    # What the rows have in common with those of every other tenant gives nobody away.
    common = {"2026-11-23 08:00:00+00:00"}
    return {
        name: {
            key: value for key, value in row.items() if str(value) not in common and not isinstance(value, bytes | list)
        }
        for name, row in rows.items()
    }


async def sign_in(application: Application, identifier: str) -> httpx2.Response:
    return await application.client.post("/auth/login", json={"identifier": identifier, "password": PASSWORD})


@pytest.fixture
async def school(application: Application, database: SavepointDatabase) -> FilledSchool:
    return await found_school(application, database)


async def delete_school(application: Application, school: FilledSchool, **params: str) -> httpx2.Response:
    return await application.client.delete(f"/orgs/{school.owner.org_id}", headers=school.owner.headers, params=params)


async def export_of(application: Application, person: Person) -> zipfile.ZipFile:
    answer = await application.client.post(f"/orgs/{person.org_id}/export", headers=person.headers)
    assert answer.status_code == 202, answer.text
    assert await do_jobs(application, EXPORT) == 1
    job = await application.client.get(f"/jobs/{answer.json()['job_id']}", headers=person.headers)
    assert job.json()["state"] == "done", job.text
    archive = await application.client.get(job.json()["result_url"])
    assert archive.status_code == 200
    return zipfile.ZipFile(io.BytesIO(archive.content))


async def test_deleting_leaves_no_row_and_no_file_and_the_export_held_all_of_it(
    application: Application, database: SavepointDatabase, school: FilledSchool, tmp_path: Path
) -> None:
    neighbour = await found_school(application, database)
    blobs = tmp_path / "blobs"
    async with database.superuser() as connection:
        neighbours_rows = await contents_of(connection, TENANTS, neighbour.owner.org_id)
        held = {name: len(rows) for name, rows in (await contents_of(connection, TENANTS, school.owner.org_id)).items()}
        assert len(await places_of(connection, school.words)) > len(TENANTS)
    neighbours_files = files_below(blobs / str(neighbour.owner.org_id))
    assert min(held.values()) >= 1

    exported = await export_of(application, school.owner)
    assert_holds_all(exported, held)

    answer = await delete_school(application, school)
    assert answer.status_code == 202, answer.text
    assert await do_jobs(application, ERASE) == 1
    assert await do_jobs(application, SWEEP) == 1

    async with database.superuser() as connection:
        assert await places_of(connection, school.words) <= TOMBSTONES
        left = await contents_of(connection, TENANTS, school.owner.org_id)
        assert {name: rows for name, rows in left.items() if rows} == {}
        assert await contents_of(connection, TENANTS, neighbour.owner.org_id) == neighbours_rows
    assert [path for path in files_below(tmp_path) if str(school.owner.org_id) in path] == []
    assert files_below(blobs / str(neighbour.owner.org_id)) == neighbours_files
    contents = b"".join(files_below(blobs).values())
    assert school.owner.org_id.hex.encode() not in contents


def assert_holds_all(exported: zipfile.ZipFile, held: Mapping[str, int]) -> None:
    manifest = json.loads(exported.read("manifest.json"))
    tables = {table["table"]: table for table in manifest["tables"]}
    assert set(tables) == set(TENANTS) - set(DERIVED)
    for name, table in tables.items():
        lines = exported.read(table["path"]).splitlines()
        assert (len(lines), table["rows"]) == (len(lines), len(lines))
        # Asking for the export left a job and an entry in the log.
        assert len(lines) - held[name] == (1 if name in {"jobs", "audit_log"} else 0), name
        assert all(isinstance(json.loads(line), dict) for line in lines)
        assert table["describes"]
    files = {use["file_name"]: file for file in manifest["files"] for use in file["used_by"] if file["path"]}
    for name, content in DOCUMENTS.items():
        assert exported.read(files[name]["path"]).startswith(content)
    described = {"manifest.json", "README.txt", *(table["path"] for table in tables.values())}
    described |= {file["path"] for file in files.values()}
    assert set(exported.namelist()) == described
    readme = exported.read("README.txt").decode()
    assert [path for path in described - {"README.txt"} if path not in readme] == []


async def test_no_secret_is_exported(
    application: Application, database: SavepointDatabase, school: FilledSchool
) -> None:
    exported = await export_of(application, school.owner)
    text = b"".join(exported.read(name) for name in exported.namelist()).decode(errors="replace")
    async with database.superuser() as connection:
        for table in tenant_catalogue():
            for column in table.secrets - {"payload"}:
                query = select(table.table.columns[column]).where(table.tenant_column == school.owner.org_id)
                for value in (await connection.scalars(query)).all():
                    assert (value.hex() if isinstance(value, bytes) else str(value)) not in text, (
                        f"{table.name}.{column}"
                    )
    left_out = {part["what"] for part in json.loads(exported.read("manifest.json"))["left_out"]}
    assert {"column users.password_hash", "column refresh_tokens.token_hash", "table chunk_vectors"} <= left_out


@pytest.mark.parametrize("which", [0, 1])
async def test_an_offer_of_a_school_that_is_gone_opens_nothing(
    application: Application, school: FilledSchool, monkeypatch: pytest.MonkeyPatch, which: int
) -> None:
    """Its erasure ends while the password of who joins is hashed."""
    new_user, offers = application.platform.auth.service.new_user, await offers_of(application, school.owner)
    await delete_school(application, school)

    async def end_and_go_on(*args: Any, **fields: Any) -> User:
        assert await do_jobs(application, ERASE) == 1
        return await new_user(*args, **fields)

    monkeypatch.setattr(application.platform.auth.service, "new_user", end_and_go_on)
    assert code_of(await accept(application, offers[which])) == (422, "invalid_invitation")


async def test_from_the_answer_on_nobody_gets_in(
    application: Application, database: SavepointDatabase, school: FilledSchool
) -> None:
    async with database.superuser() as connection:
        email = await connection.scalar(select(User.email).where(User.id == school.owner.user_id))
    offers = await offers_of(application, school.owner)

    assert (await delete_school(application, school)).status_code == 202

    for offer in offers:
        assert code_of(await accept(application, offer)) == (422, "invalid_invitation")
    for person in (school.owner, school.learner):
        assert code_of(await application.client.get("/users/me", headers=person.headers)) == (401, "unauthenticated")
    refreshed = await application.client.post("/auth/refresh", json={"refresh_token": school.refresh_token})
    assert refreshed.status_code == 401
    assert code_of(await sign_in(application, str(email))) == (401, "invalid_credentials")
    asked = await application.client.post(
        "/ai/respond",
        headers=school.learner.headers,
        json={"persona_id": str(school.owner.org_id), "user_message": "What is a leaf?"},
    )
    assert asked.status_code == 401
    assert code_of(await delete_school(application, school)) == (401, "unauthenticated")


async def test_who_deletes_sees_the_job_until_it_is_done(application: Application, school: FilledSchool) -> None:
    job_id = (await delete_school(application, school)).json()["job_id"]

    queued = await application.client.get(f"/jobs/{job_id}", headers=school.owner.headers)
    assert queued.json() == {"job_id": job_id, "kind": ERASE, "state": "queued", "progress": 0.0}
    foreign = await application.client.get(f"/jobs/{job_id}", headers=school.learner.headers)
    assert code_of(foreign) == (401, "unauthenticated")
    await do_jobs(application, ERASE)
    done = await application.client.get(f"/jobs/{job_id}", headers=school.owner.headers)
    assert code_of(done) == (401, "unauthenticated")


async def test_a_name_that_is_given_must_be_the_organisations(
    application: Application, database: SavepointDatabase, school: FilledSchool
) -> None:
    refused = await delete_school(application, school, confirm_name="Another school")
    assert code_of(refused) == (422, "invalid")
    assert refused.json()["errors"][0]["field"] == "confirm_name"
    assert (await application.client.get("/users/me", headers=school.owner.headers)).status_code == 200

    async with database.superuser() as connection:
        name = await connection.scalar(select(Organization.name).where(Organization.id == school.owner.org_id))
    assert (await delete_school(application, school, confirm_name=str(name))).status_code == 202


@pytest.mark.parametrize("role", [Role.ADMIN, Role.EXPERT, Role.USER])
async def test_only_an_owner_exports_or_deletes(application: Application, role: Role) -> None:
    owner = await application.register()
    member = await application.add_member(owner.org_id, role)
    for method, path in (("DELETE", f"/orgs/{owner.org_id}"), ("POST", f"/orgs/{owner.org_id}/export")):
        answer = await application.client.request(method, path, headers=member.headers)
        assert code_of(answer) == (403, "forbidden")


async def test_an_owner_who_was_demoted_meanwhile_deletes_nothing(
    application: Application, database: SavepointDatabase
) -> None:
    owner = await application.register()
    async with database.unit_of_work(owner.org_id) as session:
        user = await session.get_one(User, owner.user_id)
        user.role = "admin"
    answer = await application.client.delete(f"/orgs/{owner.org_id}", headers=owner.headers)
    assert code_of(answer) == (401, "unauthenticated")


async def test_the_platforms_log_keeps_that_it_was_deleted_and_nobodys_name(
    application: Application, database: SavepointDatabase, school: FilledSchool
) -> None:
    await delete_school(application, school)
    await do_jobs(application, ERASE)
    async with database.superuser() as connection:
        entries = (
            await connection.execute(select(AuditRecord.__table__).where(AuditRecord.org_id.is_(None)))
        ).mappings()
        [entry] = [entry for entry in entries if entry["action"] == "organisation.deletion_requested"]
        tombstone = (await connection.execute(select(ErasedOrganization.__table__))).mappings().one()
    assert (entry["target_id"], entry["actor_id"], entry["address"]) == (str(school.owner.org_id), None, None)
    assert tombstone["id"] == school.owner.org_id
    assert tombstone["erased_at"] > tombstone["requested_at"]


class Killed(Exception):
    pass


async def test_killed_after_each_step_the_job_still_ends_with_nothing_left(
    application: Application, database: SavepointDatabase, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """One attempt after the other dies, each a step later than the one before."""
    owner = await application.register()
    await fill_tables(database, owner.org_id)
    await application.client.delete(f"/orgs/{owner.org_id}", headers=owner.headers)
    erasure = application.platform.custody.erasure
    job = await claim(application, ERASE)
    assert job is not None
    told: list[float] = []
    for last in range(1, len(erasure._steps(UUID(int=0), UUID(int=0))) + 1):
        told.clear()

        async def die(_database: Any, _job: Any, progress: float, *, last: int = last) -> None:
            told.append(progress)
            if len(told) == last:
                raise Killed

        with monkeypatch.context() as patched:
            patched.setattr("bwenge.auth.erasure.report_progress", die)
            with pytest.raises(Killed):
                await erasure.run(job)
    assert told == sorted(set(told))
    assert told[-1] == 1

    await erasure.run(job)

    async with database.superuser() as connection:
        left = await contents_of(connection, TENANTS, owner.org_id)
        assert {name: rows for name, rows in left.items() if rows} == {}
        assert await places_of(connection, [str(owner.org_id), str(owner.user_id)]) <= UNTIL_SWEPT
    assert not RECORDS, "fill kept records here, and look at what stays of them"
    [line] = (tmp_path / "erased-organisations.jsonl").read_text().splitlines()
    assert json.loads(line)["org_id"] == str(owner.org_id)


async def write_late(application: Application, org_id: UUID, folder: Path) -> None:
    """What an upload that had begun before the deletion stores after it."""
    file = folder / "late"
    file.write_bytes(b"late")
    key = BlobKey(org_id, hashlib.sha256(b"late").hexdigest())
    async with application.platform.resources.database.unit_of_work(org_id) as session:
        await references.lease(session, key, owner_id=new_id(), size=4)
        await enqueue(session, NewJob("knowledge.sweep_file", {"sha256": key.sha256}, org_id=org_id))
    await application.platform.resources.blobs.put(key, file)


async def sweep_all(application: Application) -> None:
    """As a start asks for it, and as each erasure once did."""
    async with application.platform.resources.database.unit_of_work(PLATFORM) as session:
        await session.execute(delete(Job).where(Job.kind == SWEEP))
        await enqueue(session, NewJob(SWEEP, {}))
    assert await do_jobs(application, SWEEP) == 1


async def erased_schools(application: Application, count: int) -> list[UUID]:
    owners = [await application.register() for _ in range(count)]
    for owner in owners:
        await application.client.delete(f"/orgs/{owner.org_id}", headers=owner.headers)
    assert await do_jobs(application, ERASE) == count
    return [owner.org_id for owner in owners]


@pytest.fixture
def erased(monkeypatch: pytest.MonkeyPatch) -> list[UUID]:
    """Whose files are removed from now on, which is a step of each erasure."""
    removed: list[UUID] = []
    delete_all = BlobStore.delete_all

    async def note(store: BlobStore, org_id: UUID) -> None:
        removed.append(org_id)
        await delete_all(store, org_id)

    monkeypatch.setattr(BlobStore, "delete_all", note)
    return removed


async def test_what_was_written_after_its_turn_is_swept_away(
    application: Application, database: SavepointDatabase, school: FilledSchool, tmp_path: Path
) -> None:
    org_id = school.owner.org_id
    await delete_school(application, school)
    await do_jobs(application, ERASE)
    await write_late(application, org_id, tmp_path)

    await do_jobs(application, SWEEP)

    async with database.superuser() as connection:
        assert await places_of(connection, [str(org_id)]) <= TOMBSTONES
    assert not (tmp_path / "blobs" / str(org_id)).exists()


async def test_the_sweep_after_an_erasure_is_of_that_organisation_alone(
    application: Application, erased: list[UUID]
) -> None:
    org_ids = await erased_schools(application, 3)
    erased.clear()
    assert await do_jobs(application, SWEEP) == 3
    assert sorted(erased) == sorted(org_ids)


async def test_the_sweep_of_all_passes_over_those_of_whom_nothing_is_left(
    application: Application, database: SavepointDatabase, erased: list[UUID], tmp_path: Path
) -> None:
    _, with_rows, with_files, with_both = await erased_schools(application, 4)
    await write_late(application, with_both, tmp_path)
    async with database.superuser() as connection:
        await connection.execute(insert(Organization).values(id=with_rows, name="Back from the tape"))
    (tmp_path / "blobs" / str(with_files)).mkdir()
    erased.clear()

    await sweep_all(application)

    assert sorted(erased) == sorted([with_rows, with_files, with_both])
    erased.clear()
    await sweep_all(application)
    assert erased == []


async def test_no_sweep_touches_an_organisation_without_a_tombstone(application: Application) -> None:
    owner = await application.register()
    async with application.platform.resources.database.unit_of_work(PLATFORM) as session:
        await enqueue(session, NewJob(SWEEP, {"org_id": str(owner.org_id)}))
    with pytest.raises(NoResultFound):
        await do_jobs(application, SWEEP)
    assert (await application.client.get("/users/me", headers=owner.headers)).status_code == 200


async def test_an_organisation_of_a_restored_backup_is_erased_again_at_the_next_start(
    application: Application, database: SavepointDatabase, school: FilledSchool
) -> None:
    """The backup knows of no tombstone; the file beside the database does."""
    org_id, erasure = school.owner.org_id, application.platform.custody.erasure
    await delete_school(application, school)
    await do_jobs(application, ERASE)
    async with database.superuser() as connection:
        reference = await connection.scalar(select(ErasedOrganization.reference))
        await connection.execute(delete(ErasedOrganization))
        await connection.execute(delete(Job))
        await connection.execute(insert(Organization).values(id=org_id, name="Back from the tape"))
        await connection.execute(
            insert(User).values(
                id=school.owner.user_id,
                org_id=org_id,
                name="B",
                email="b@tape.example",
                password_hash="-",
                role="owner",
            )
        )

    await erasure.replay()

    assert (await application.client.get("/users/me", headers=school.owner.headers)).status_code == 401
    await do_jobs(application, ERASE)
    async with database.superuser() as connection:
        assert await places_of(connection, [str(org_id), "Back from the tape", "b@tape.example"]) <= UNTIL_SWEPT
        assert await connection.scalar(select(ErasedOrganization.reference)) == reference


async def test_a_start_takes_up_an_erasure_whose_job_died_and_mends_the_file(
    application: Application, database: SavepointDatabase, school: FilledSchool, tmp_path: Path
) -> None:
    await delete_school(application, school)
    async with database.unit_of_work(PLATFORM) as session:
        await session.execute(update(Job).where(Job.kind == ERASE).values(state="dead"))

    await application.platform.custody.erasure.replay()
    assert str(school.owner.org_id) in (tmp_path / "erased-organisations.jsonl").read_text()
    await application.platform.custody.erasure.replay()

    assert await do_jobs(application, ERASE) == 1
    async with database.superuser() as connection:
        assert await connection.scalar(select(Organization.id).where(Organization.id == school.owner.org_id)) is None


async def test_a_start_without_erased_organisations_asks_for_nothing(
    application: Application, database: SavepointDatabase
) -> None:
    await application.register()
    await application.platform.custody.erasure.replay()
    async with database.superuser() as connection:
        assert await connection.scalar(select(func.count()).select_from(Job)) == 0
