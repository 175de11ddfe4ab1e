"""GET /knowledge/workers: figures of the whole platform, for administrators, and nothing of anybody's work."""

from bwenge.kit.identity import Role
from bwenge.kit.jobs.presence import WorkerPresence, announce
from bwenge.kit.jobs.queues import EXTRACTION, QUEUES
from tests.support.application import Application


async def test_administrators_see_workers_and_queues_and_nothing_else(application: Application) -> None:
    owner = await application.register()
    admin = await application.add_member(owner.org_id, Role.ADMIN)
    presence = WorkerPresence.new([EXTRACTION])
    await announce(application.platform.resources.database, presence, running=1)
    await application.upload(owner, await application.create_persona(owner), b"The well is deep.")
    answer = await application.client.get("/knowledge/workers", headers=admin.headers)
    assert answer.status_code == 200
    body = answer.json()
    assert body["workers"] == [{"name": presence.name, "queues": [EXTRACTION], "alive": True, "busy": True}]
    assert [queue["name"] for queue in body["queues"]] == list(QUEUES)
    by_name = {queue["name"]: queue for queue in body["queues"]}
    assert by_name["extraction"]["depth"] == 1
    assert by_name["extraction"]["oldest_seconds"] >= 0
    assert by_name["embedding"] == {"name": "embedding", "depth": 0, "oldest_seconds": None}


async def test_every_organisation_sees_the_same_figures(application: Application) -> None:
    ours, theirs = await application.register(), await application.register()
    await application.upload(ours, await application.create_persona(ours), b"The well is deep.")
    answers = [
        (await application.client.get("/knowledge/workers", headers=person.headers)).json() for person in (ours, theirs)
    ]
    assert [{queue["name"]: queue["depth"] for queue in answer["queues"]}["extraction"] for answer in answers] == [1, 1]


async def test_a_key_that_is_confined_to_personas_sees_no_workers(application: Application) -> None:
    owner = await application.register()
    key = await application.make_key(owner, Role.ADMIN, persona_ids=[str(await application.create_persona(owner))])
    assert (await application.client.get("/knowledge/workers", headers=key.headers)).status_code == 403
