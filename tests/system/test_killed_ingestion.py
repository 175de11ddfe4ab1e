"""Whatever is killed, and wherever: once the platform is started again, a source ends as if nothing had happened."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx2
import psutil
import pytest

from tests.support.dying_platform import Point
from tests.support.platform import Caller, PlatformProcess
from tests.support.waiting import eventually
from tests.system.stored import SourceIndex, StoredState
from tests.system.textbook import VILLAGES, fact_about, page_of, question_about

DYING: Final = "tests.support.dying_platform"
EMBEDDING_BATCH: Final = 16
MAX_ATTEMPTS: Final = 5


@dataclass(frozen=True)
class Outcome:
    """How a source ended, and what indexing had written then."""

    persona_id: str
    status: dict[str, Any]
    index: SourceIndex
    attempts: tuple[int, int]
    """Of its reading, and of its embedding."""


class School:
    """One tenant, whose data directory outlives its platforms."""

    def __init__(self, data_dir: Path, textbook: Path) -> None:
        self.data_dir = data_dir
        self.stored = StoredState(data_dir)
        self._textbook = textbook
        self._owner: Caller | None = None

    @contextmanager
    def open(self, **environment: str) -> Iterator[Caller]:
        """A running platform, spoken to by the school's owner; told where to die, it is dead at the end."""
        platform = PlatformProcess(self.data_dir, module=DYING if environment else "bwenge", environment=environment)
        with platform:
            caller = self._sign_in(platform.url)
            with caller.http:
                yield caller
            if "DIE_AT" in environment:
                assert platform.wait_until_dead() == -signal.SIGKILL

    def _sign_in(self, url: str) -> Caller:
        """Registered with the first platform; the token is good on every one that has the same secret."""
        if self._owner is None:
            self._owner = Caller.register(url)
            return self._owner
        return Caller(url, token=self._owner.token, org_id=self._owner.org_id)

    def upload(self, caller: Caller) -> str:
        """The persona that the book is for; the platform may die before it can answer the upload."""
        persona_id = caller.create_persona()
        with suppress(httpx2.TransportError):
            caller.upload(persona_id, self._textbook).raise_for_status()
        return persona_id

    def outcome(self, caller: Caller, persona_id: str) -> Outcome:
        """Wait until the persona's one source has ended."""
        [source] = caller.http.get("/knowledge/sources", params={"persona_id": persona_id}).json()["items"]
        status = caller.wait(source["source_id"])
        eventually(lambda: self.stored.unfinished_ingestions() == 0, "no ingestion is left to do")
        return Outcome(
            persona_id,
            status,
            self.stored.index_of(source["source_id"]),
            self.stored.attempts_of(source["source_id"]),
        )

    def outcome_after_death(self, **environment: str) -> Outcome:
        """Upload to a platform that dies as told, then start another on its data."""
        with self.open(**environment) as caller:
            persona_id = self.upload(caller)
        with self.open() as caller:
            return self.outcome(caller, persona_id)


@pytest.fixture(scope="module")
def school(data_dir: Path, textbook: Path) -> School:
    return School(data_dir, textbook)


@pytest.fixture(scope="module")
def undisturbed(school: School) -> SourceIndex:
    """What indexing the book writes where nothing is killed."""
    with school.open() as caller:
        outcome = school.outcome(caller, school.upload(caller))
    assert (outcome.status["status"], outcome.attempts) == ("ready", (1, 1))
    assert len(outcome.index.chunks) > EMBEDDING_BATCH, "one batch holds the book, so there is no middle of embedding"
    return outcome.index


def _extraction_processes(data_dir: Path) -> list[psutil.Process]:
    """Those that read documents of this data directory, whoever their parent is."""
    work = str(data_dir / "work")
    return [
        process
        for process in psutil.process_iter(["cmdline"])
        if any(work in it for it in process.info["cmdline"] or ())
    ]


@pytest.mark.parametrize(
    ("point", "attempts"),
    [
        (Point.EXTRACTING, (2, 1)),
        (Point.CHUNKING, (2, 1)),
        (Point.KEYWORD_ROWS, (2, 1)),
        (Point.KEYWORD_COMMITTED, (1, 2)),
        (Point.EMBEDDING, (1, 2)),
        (Point.VECTOR_ROWS, (1, 2)),
    ],
)
def test_a_source_ends_as_undisturbed_after_the_platform_was_killed(
    school: School, undisturbed: SourceIndex, point: Point, attempts: tuple[int, int]
) -> None:
    outcome = school.outcome_after_death(DIE_AT=point)

    assert (outcome.status["status"], outcome.status["searchable"]) == ("ready", "full")
    assert outcome.attempts == attempts
    assert outcome.status["attempts"] == attempts[1]
    assert outcome.status["chunk_count"] == len(undisturbed.chunks)
    assert outcome.index == undisturbed


def test_a_source_that_was_ready_when_the_platform_was_killed_is_not_indexed_again(
    school: School, undisturbed: SourceIndex
) -> None:
    outcome = school.outcome_after_death(DIE_AT=Point.COMMITTED)

    assert (outcome.status["status"], outcome.status["attempts"]) == ("ready", 1)
    assert outcome.index == undisturbed


def test_a_source_ends_as_undisturbed_and_is_cited_after_postgresql_was_killed_along_with_the_platform(
    school: School, undisturbed: SourceIndex
) -> None:
    with school.open(DIE_AT=Point.VECTOR_ROWS, DIE_WITH_POSTGRES="1") as caller:
        persona_id = school.upload(caller)

    with school.open() as caller:
        outcome = school.outcome(caller, persona_id)
        answer = caller.ask(persona_id, question_about(VILLAGES[7]))

    assert (outcome.status["status"], outcome.status["attempts"]) == ("ready", 2)
    assert outcome.index == undisturbed
    assert fact_about(VILLAGES[7]) in answer["response_text"]
    assert [citation["locator"]["page"] for citation in answer["citations"]] == [page_of(VILLAGES[7])]


def test_a_killed_platform_leaves_no_extraction_process_behind(school: School) -> None:
    with school.open(DIE_AT=Point.EXTRACTING) as caller:
        school.upload(caller)

    eventually(lambda: not _extraction_processes(school.data_dir), "the extraction process ends with its parent")


@pytest.mark.parametrize("place", ["work/0193c0de-0000-7000-8000-000000000000-1/original", "blobs/school/0a1b2c#1"])
def test_a_new_start_removes_the_copies_that_a_killed_platform_was_working_on(school: School, place: str) -> None:
    left = school.data_dir / place
    left.parent.mkdir(parents=True)
    left.write_bytes(b"a document whose source was deleted meanwhile")

    with school.open():
        assert not left.exists()


def test_a_lost_extraction_process_costs_an_attempt_and_not_the_source(
    school: School, undisturbed: SourceIndex
) -> None:
    with school.open(KILL_EXTRACTIONS="1") as caller:
        outcome = school.outcome(caller, school.upload(caller))

    assert (outcome.status["status"], outcome.attempts) == ("ready", (2, 1))
    assert outcome.index == undisturbed


def test_a_file_that_loses_its_extraction_process_every_time_fails_after_the_last_attempt_and_says_so(
    school: School,
) -> None:
    with school.open(KILL_EXTRACTIONS=str(MAX_ATTEMPTS)) as caller:
        persona_id = school.upload(caller)
        [source] = caller.http.get("/knowledge/sources", params={"persona_id": persona_id}).json()["items"]
        for status in caller.statuses(source["source_id"]):
            if status["status"] == "processing":
                school.stored.hasten_retries()
        ended = caller.status(source["source_id"])
        chunks = caller.chunks(source["source_id"])
        answer = caller.ask(persona_id, question_about(VILLAGES[7]))

    assert (ended["status"], ended["error_code"], ended["attempts"]) == ("failed", "worker_lost", MAX_ATTEMPTS)
    assert ended["error_message"]
    assert chunks == []
    assert answer["citations"] == []
