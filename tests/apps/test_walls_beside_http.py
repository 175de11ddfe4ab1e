"""Tenant isolation where no route's table of ids reaches: sockets, signed addresses and jobs."""

import json
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlencode
from uuid import UUID, uuid4

from fastapi import FastAPI

from bwenge.apps.schedule import SCHEDULE
from bwenge.auth.erasure import ERASE, SWEEP
from bwenge.auth.exports import EXPIRE, EXPORT
from bwenge.kit.jobs.queue import ClaimedJob
from bwenge.kit.signing import SignedPaths
from bwenge.knowledge import jobs as knowledge_jobs
from bwenge.knowledge.links import SignedSourceLinks
from tests.support.application import Application, Person
from tests.support.furnished import FurnishedSchool
from tests.support.routes import socket_paths

SOCKET_IDS: Final[Mapping[str, Mapping[str, str]]] = {"/ws/chat": {"persona_id": "persona", "session_id": "session"}}
"""The ids in the queries of sockets, and what kinds of things they name."""

JOB_IDS: Final[Mapping[str, tuple[str, ...]]] = {
    knowledge_jobs.INGEST: ("source_id",),
    knowledge_jobs.EMBED: ("source_id",),
    knowledge_jobs.PURGE: ("source_id",),
    knowledge_jobs.SWEEP_FILE: (),
    knowledge_jobs.REMOVE_FILE: (),
    EXPORT: (),
    EXPIRE: ("export_id",),
    # Both end a tenant that their payload names, and none without a tombstone; the request for it is tried in
    # tests/auth/test_erasure.py.
    ERASE: (),
    SWEEP: (),
    # These go over all tenants, and name none.
    **{recurring.kind: () for recurring in SCHEDULE},
}
"""The ids in the payloads of jobs, beside the tenant that the job belongs to."""

EXPORT_PATH: Final = "/orgs/{}/exports/{}/file"
UNSTORED_FILE: Final = "0" * 64


async def knock(app: FastAPI, path: str, query: Mapping[str, object], caller: Person) -> tuple[int, bytes]:
    """How a socket is refused before its handshake: status, and body without its request id. 101 when it is not."""
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "websocket.connect" if not sent else "websocket.disconnect", "code": 1001}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "websocket",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "scheme": "ws",
        "http_version": "1.1",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": urlencode(query).encode(),
        "headers": [(name.lower().encode(), value.encode()) for name, value in caller.headers.items()]
        + [(b"host", b"bwenge.test")],
        "client": ("127.0.0.1", 1),
        "server": ("bwenge.test", 80),
        "subprotocols": [],
        "extensions": {"websocket.http.response": {}},
    }
    await app(scope, receive, send)
    if sent[0]["type"] == "websocket.accept":
        return 101, b""
    body = b"".join(message.get("body", b"") for message in sent[1:])
    return sent[0]["status"], body.replace(json.loads(body)["request_id"].encode(), b"")


async def test_sockets_refuse_foreign_and_malformed_ids_as_unknown_ones(
    application: Application, schools: tuple[FurnishedSchool, FurnishedSchool]
) -> None:
    ours, foreign = schools
    assert socket_paths(application.app) == set(SOCKET_IDS)
    for path, ids in SOCKET_IDS.items():
        own = {name: ours.ids[kind] for name, kind in ids.items()}
        assert (await knock(application.app, path, own, ours.owner))[0] == 101
        for name, kind in ids.items():
            for role, by_key, caller in ours.callers:
                unknown = await knock(application.app, path, own | {name: uuid4()}, caller)
                assert unknown[0] == 404, (path, name, role, by_key)
                for value in (foreign.ids[kind], "not-a-uuid", "0", ""):
                    answer = await knock(application.app, path, own | {name: value}, caller)
                    assert answer == unknown, (path, name, value, role, by_key)


async def test_the_address_of_a_file_opens_that_file_of_that_organisation_and_no_other(
    application: Application, schools: tuple[FurnishedSchool, FurnishedSchool]
) -> None:
    ours, foreign = schools
    links: SignedSourceLinks = application.app.state.provided[SignedSourceLinks]
    address = links.source_url(ours.ids["source"], ours.owner.org_id, locator={})
    assert (await application.client.get(address)).status_code == 200
    await _refuses_other_ids(application, address, ours.ids["source"], foreign.ids["source"], in_path=True)
    await _refuses_other_ids(application, address, ours.owner.org_id, foreign.owner.org_id, in_path=False)


async def test_a_signature_over_a_foreign_pair_of_organisation_and_source_opens_nothing(
    application: Application, schools: tuple[FurnishedSchool, FurnishedSchool]
) -> None:
    """Even a signature of the platform's own, were one made by mistake, stays within the organisation it names."""
    ours, foreign = schools
    links: SignedSourceLinks = application.app.state.provided[SignedSourceLinks]
    answers = [
        await application.client.get(links.source_url(source_id, ours.owner.org_id, locator={}))
        for source_id in (foreign.ids["source"], uuid4())
    ]
    assert [answer.status_code for answer in answers] == [404, 404]
    assert _say_the_same(*answers)


async def test_the_address_of_an_export_opens_that_export_of_that_organisation_and_no_other(
    application: Application, schools: tuple[FurnishedSchool, FurnishedSchool]
) -> None:
    ours, foreign = schools
    await run_job(application, EXPORT, ours.owner.org_id, {}, job_id=ours.ids["export"])
    addresses: SignedPaths = application.app.state.provided[SignedPaths]
    address = addresses.address_of(EXPORT_PATH.format(ours.owner.org_id, ours.ids["export"]))
    assert (await application.client.get(address)).status_code == 200
    await _refuses_other_ids(application, address, ours.ids["export"], foreign.ids["export"], in_path=True)
    await _refuses_other_ids(application, address, ours.owner.org_id, foreign.owner.org_id, in_path=True)
    # Of the platform's own, were one made by mistake.
    answers = [
        await application.client.get(addresses.address_of(EXPORT_PATH.format(org_id, ours.ids["export"])))
        for org_id in (foreign.owner.org_id, uuid4())
    ]
    assert [answer.status_code for answer in answers] == [404, 404]
    assert _say_the_same(*answers)


async def test_a_job_that_names_a_foreign_id_does_what_one_that_names_an_unknown_id_does(
    application: Application, schools: tuple[FurnishedSchool, FurnishedSchool]
) -> None:
    ours, foreign = schools
    await run_job(application, EXPORT, foreign.owner.org_id, {}, job_id=foreign.ids["export"])
    assert set(JOB_IDS) == {kind.name for kind in application.platform.jobs.kinds}
    before = await everything_of(application, foreign)
    for kind, names in JOB_IDS.items():
        for name in names:
            outcomes = []
            for value in (uuid4(), foreign.ids[name.removesuffix("_id")]):
                payload = {name: str(value), "sha256": UNSTORED_FILE}
                outcomes.append(await outcome(application, kind, ours.owner.org_id, payload))
            assert outcomes[0] == outcomes[1], kind
    assert await everything_of(application, foreign) == before


async def run_job(
    application: Application, kind: str, org_id: UUID, payload: dict[str, Any], *, job_id: UUID | None = None
) -> None:
    [handler] = [known.handle for known in application.platform.jobs.kinds if known.name == kind]
    await handler(
        ClaimedJob(
            id=job_id or uuid4(),
            kind=kind,
            org_id=org_id,
            attempt=1,
            max_attempts=1,
            payload=payload,
        )
    )


async def outcome(application: Application, kind: str, org_id: UUID, payload: dict[str, Any]) -> str:
    """The kind of failure, or none."""
    try:
        await run_job(application, kind, org_id, payload)
    except Exception as error:  # noqa: BLE001  # whatever it is, it has to be the same
        return type(error).__name__
    return "done"


async def everything_of(application: Application, school: FurnishedSchool) -> list[object]:
    """What the jobs could have touched, as its owner sees it."""
    source, owner = f"/knowledge/{school.ids['source']}", school.owner
    seen: list[object] = []
    for path in (f"{source}/status", f"{source}/chunks", f"{source}/file"):
        answer = await application.client.get(path, headers=owner.headers)
        assert answer.status_code == 200
        seen.append(answer.content)
    addresses: SignedPaths = application.app.state.provided[SignedPaths]
    export = await application.client.get(addresses.address_of(EXPORT_PATH.format(owner.org_id, school.ids["export"])))
    return [*seen, export.status_code, len(export.content)]


async def _refuses_other_ids(
    application: Application, address: str, own: UUID, foreign: UUID, *, in_path: bool
) -> None:
    unknown = await application.client.get(address.replace(str(own), str(uuid4())))
    other = await application.client.get(address.replace(str(own), str(foreign)))
    assert unknown.status_code == 403
    assert unknown.json()["code"] == "invalid_signature"
    assert _say_the_same(unknown, other)
    malformed = await application.client.get(address.replace(str(own), "not-a-uuid"))
    assert malformed.status_code == (404 if in_path else 422)


def _say_the_same(first: Any, second: Any) -> bool:
    """Whether the two say the same but for the request id."""
    bodies = [answer.content.replace(answer.headers["x-request-id"].encode(), b"") for answer in (first, second)]
    return (first.status_code, bodies[0]) == (second.status_code, bodies[1])
