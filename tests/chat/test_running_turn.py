"""A turn without a database: numbering, endings, and what becomes of it when something fails."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy.exc import OperationalError

from bwenge.chat import turns
from bwenge.chat.hub import SessionHub
from bwenge.chat.protocol import ServerFrame
from bwenge.chat.schemas import MessageBody, MessageMetadata
from bwenge.chat.settings import ChatSettings
from bwenge.chat.turn_records import LeaseLost, Outcome, StartedTurn, TurnRecords
from bwenge.chat.turns import RunningTurn, StopReason
from bwenge.kit.db import DatabaseUnavailable
from bwenge.kit.errors import NotFound, Unavailable
from bwenge.kit.ids import new_id
from bwenge.persona.contract import ReplyAnimation, ReplyDelta
from tests.chat.scripted import Frames, Gate, ScriptedReplies, Step, answering, joined, kinds, numbers, only, reply

ID = UUID("01900000-0000-7000-8000-000000000001")
BLOCK = 6


class MemoryRecords(TurnRecords):
    """What a turn asks of its rows, and what it was told; fails as often as wanted."""

    def __init__(self, *, failures: Sequence[Exception] = (), lease_lost_at_block: int | None = None) -> None:
        self.blocks = 0
        self.outcome: Outcome | None = None
        self.last_seq = 0
        self.answer_ids: set[UUID] = set()
        self._failures = list(failures)
        self._lease_lost_at_block = lease_lost_at_block

    async def reserve(self, turn: StartedTurn) -> int:  # noqa: ARG002  # the signature is the original's
        self.blocks += 1
        if self.blocks == self._lease_lost_at_block:
            raise LeaseLost
        return BLOCK

    async def finish(
        self, turn: StartedTurn, outcome: Outcome, *, answer_id: UUID, last_seq: int
    ) -> MessageBody | None:
        self.answer_ids.add(answer_id)
        if self._failures:
            raise self._failures.pop(0)
        self.outcome, self.last_seq = outcome, last_seq
        return replace_message(turn.question, answer_id, outcome.text) if outcome.text else None


def replace_message(question: MessageBody, message_id: UUID, content: str) -> MessageBody:
    return question.model_copy(update={"message_id": message_id, "content": content, "sender": "assistant"})


class Listening(SessionHub):
    """Keeps what is published."""

    def __init__(self) -> None:
        super().__init__(sockets_per_user=8)
        self.published: list[ServerFrame] = []

    def publish(self, frame: ServerFrame) -> None:
        self.published.append(frame)

    @property
    def frames(self) -> Frames:
        return [frame.model_dump() for frame in self.published]


class Stage:
    """One turn, its rows and its listeners."""

    def __init__(
        self, script: Sequence[Step], *, records: MemoryRecords | None = None, turn_seconds: float = 300
    ) -> None:
        self.hub = Listening()
        self.replies = ScriptedReplies(script)
        self.records = records or MemoryRecords()
        self.turn = RunningTurn(
            started_turn(),
            replies=self.replies,
            records=self.records,
            hub=self.hub,
            settings=ChatSettings(turn_seconds=turn_seconds, block_size=BLOCK),
        )

    async def run(self) -> Frames:
        async with asyncio.timeout(10):
            await self.turn.run()
        return self.hub.frames

    @property
    def outcome(self) -> Outcome:
        assert self.records.outcome is not None
        return self.records.outcome


def started_turn() -> StartedTurn:
    question = MessageBody(
        message_id=ID,
        sender="user",
        content="What is it?",
        timestamp=datetime(2026, 11, 23, 8, tzinfo=UTC),
        metadata=MessageMetadata(),
    )
    return StartedTurn(
        turn_id=new_id(),
        org_id=ID,
        user_id=ID,
        persona_id=ID,
        session_id=ID,
        question=question,
        history=(),
        first_seq=41,
        reserved_seqs=BLOCK,
    )


@pytest.fixture
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "_STORE_AGAIN_AFTER", (0.0, 0.0))


def statement_failed() -> OperationalError:
    return OperationalError("COMMIT", {}, Exception("deadlock detected"))


# Laws.


@settings(max_examples=60)
@given(st.lists(st.text(max_size=9_000), min_size=1, max_size=30))
async def test_the_deltas_joined_are_the_stored_answer_whatever_the_persona_says(deltas: list[str]) -> None:
    stage = Stage(answering(*deltas))

    frames = await stage.run()

    answers = [frame["message"]["content"] for frame in frames if frame["type"] == "message"][1:]
    assert stage.outcome.text == joined(frames)
    assert answers == ([joined(frames)] if joined(frames) else [])


@settings(max_examples=30)
@given(st.lists(st.sampled_from(["a", "", "b" * 5_000]), max_size=40))
async def test_numbers_rise_by_one_over_every_block(deltas: list[str]) -> None:
    stage = Stage(answering(*deltas))

    frames = await stage.run()

    assert numbers(frames) == list(range(41, 41 + len(numbers(frames))))
    assert stage.records.last_seq == numbers(frames)[-1] == stage.turn.last_seq


@given(st.lists(st.text(alphabet="aĩ\x00\ud800🦒", max_size=20), min_size=1, max_size=10))
async def test_what_cannot_be_stored_is_not_streamed(deltas: list[str]) -> None:
    stage = Stage(answering(*deltas))

    frames = await stage.run()

    assert joined(frames) == "".join(deltas).replace("\x00", "").replace("\ud800", "")


# Blocks.


async def test_a_turn_that_fits_into_its_block_takes_no_other() -> None:
    stage = Stage([ReplyDelta("a"), reply("a")])

    await stage.run()

    assert stage.records.blocks == 0


async def test_a_long_turn_takes_as_many_blocks_as_it_needs() -> None:
    stage = Stage([*(ReplyDelta("a") for _ in range(20)), reply("a" * 20)])

    frames = await stage.run()

    assert len(numbers(frames)) == 24
    assert stage.records.blocks == 4


async def test_nothing_is_told_or_stored_once_the_lease_is_lost() -> None:
    stage = Stage(answering(*"abcdefgh"), records=MemoryRecords(lease_lost_at_block=2))

    frames = await stage.run()

    assert kinds(frames)[-1] == "delta"
    assert stage.records.outcome is None


# Endings.


async def test_an_answer_cut_by_the_model_ends_with_length() -> None:
    stage = Stage(answering("Plants", finish_reason="length"))

    frames = await stage.run()

    assert frames[-1]["finish_reason"] == "length"
    assert stage.outcome.state == "finished"


async def test_an_answer_too_long_for_its_frame_ends_with_length_and_what_was_streamed() -> None:
    stage = Stage(answering(*["é" * 3_000] * 10))

    frames = await stage.run()

    assert frames[-1]["finish_reason"] == "length"
    assert joined(frames) == "é" * 18_000
    assert stage.outcome.text == "é" * 18_000
    assert stage.outcome.reply is None
    assert stage.replies.closed.is_set()


async def test_a_long_piece_is_told_in_several_deltas() -> None:
    stage = Stage(answering("a" * 9_000))

    frames = await stage.run()

    assert [len(frame["text"]) for frame in frames if frame["type"] == "delta"] == [4_000, 4_000, 1_000]


async def test_a_stream_that_breaks_is_told_and_its_part_is_stored() -> None:
    broken = reply("Plants ", finish_reason="error", error_code="moderated", citations=())
    stage = Stage([ReplyDelta("Plants "), broken])

    frames = await stage.run()

    assert kinds(frames)[3:] == ["delta", "error", "message", "typing", "turn_finished"]
    assert only(frames, "error")["code"] == "moderated"
    assert only(frames, "error")["turn_id"] == stage.turn.turn.turn_id
    assert (frames[-1]["finish_reason"], frames[-1]["usage"]["prompt_tokens"]) == ("error", 12)
    assert (stage.outcome.state, stage.outcome.text) == ("failed", "Plants ")


async def test_a_stream_that_breaks_for_a_reason_of_its_own_is_the_model_s_failure() -> None:
    stage = Stage([ReplyDelta("Plants "), reply("Plants ", finish_reason="error", error_code="timeout")])

    frames = await stage.run()

    assert only(frames, "error")["code"] == "model_unavailable"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (NotFound(), "persona_unavailable"),
        (Unavailable(retry_after=4.5), "model_unavailable"),
        (ValueError("a defect"), "internal"),
        (TimeoutError(), "internal"),
    ],
)
async def test_a_reply_that_fails_at_once_leaves_no_answer(error: Exception, code: str) -> None:
    stage = Stage([error])

    frames = await stage.run()

    assert kinds(frames) == ["message", "typing", "turn_started", "error", "typing", "turn_finished"]
    assert only(frames, "error")["code"] == code
    assert only(frames, "error").get("retry_after") == (5 if code == "model_unavailable" else None)
    assert (frames[-1]["finish_reason"], stage.outcome.text) == ("error", "")


async def test_a_defect_tells_nothing_of_itself() -> None:
    stage = Stage([ValueError("the text of a message")])

    frames = await stage.run()

    assert "text" not in only(frames, "error")["message"]


async def test_a_reply_that_fails_later_leaves_what_was_streamed() -> None:
    stage = Stage([ReplyAnimation("thinking"), ReplyDelta("Plants "), Unavailable()])

    frames = await stage.run()

    assert kinds(frames)[5:] == ["error", "message", "typing", "turn_finished"]
    assert (stage.outcome.text, stage.outcome.animation_hint) == ("Plants ", "thinking")


async def test_a_stream_without_its_end_is_an_error() -> None:
    stage = Stage([ReplyDelta("Plants ")])

    frames = await stage.run()

    assert only(frames, "error")["code"] == "internal"
    assert stage.outcome.text == "Plants "


async def test_an_answer_without_text_is_the_model_s_failure() -> None:
    stage = Stage([reply("")])

    frames = await stage.run()

    assert only(frames, "error")["code"] == "model_unavailable"
    assert frames[-1]["finish_reason"] == "error"


async def test_a_turn_takes_only_so_long() -> None:
    stage = Stage([ReplyDelta("Plants "), Gate()], turn_seconds=0.05)

    frames = await stage.run()

    assert only(frames, "error")["code"] == "model_unavailable"
    assert stage.outcome.text == "Plants "
    assert stage.replies.closed.is_set()


async def test_what_the_persona_does_after_its_reply_is_done() -> None:
    gate = Gate()
    gate.opened.set()
    stage = Stage([*answering("Plants"), gate])

    await stage.run()

    assert gate.reached.is_set()


# Stopping.


async def test_a_turn_stopped_before_it_ran_streams_nothing() -> None:
    stage = Stage([Gate()])

    stage.turn.stop(StopReason.CANCELLED)
    frames = await stage.run()

    assert kinds(frames) == ["message", "typing", "turn_started", "typing", "turn_finished"]
    assert stage.outcome.state == "cancelled"


async def test_a_turn_that_is_no_longer_ours_ends_in_silence() -> None:
    gate = Gate()
    stage = Stage([ReplyDelta("Plants "), gate])
    running = asyncio.create_task(stage.run())
    await gate.wait_until_reached()

    stage.turn.stop(StopReason.NOT_OURS)
    frames = await running

    assert kinds(frames)[-1] == "delta"
    assert stage.records.outcome is None


async def test_only_the_first_reason_to_stop_counts() -> None:
    gate = Gate()
    stage = Stage([ReplyDelta("Plants "), gate])
    running = asyncio.create_task(stage.run())
    await gate.wait_until_reached()

    stage.turn.stop(StopReason.CANCELLED)
    stage.turn.stop(StopReason.RESTART)
    frames = await running

    assert frames[-1]["finish_reason"] == "cancelled"


async def test_stopping_a_turn_that_has_ended_changes_nothing() -> None:
    stage = Stage(answering("Plants"))
    frames = await stage.run()

    stage.turn.stop(StopReason.CANCELLED)

    assert stage.hub.frames == frames
    assert frames[-1]["finish_reason"] == "stop"


# A database that fails.


@pytest.mark.usefixtures("no_waiting")
async def test_an_answer_is_stored_again_as_the_same_message_when_the_database_was_away() -> None:
    records = MemoryRecords(failures=[DatabaseUnavailable(), statement_failed()])
    stage = Stage(answering("Plants"), records=records)

    frames = await stage.run()

    assert frames[-1]["finish_reason"] == "stop"
    assert len(records.answer_ids) == 1


@pytest.mark.usefixtures("no_waiting")
async def test_an_answer_that_cannot_be_stored_is_not_told_as_stored() -> None:
    stage = Stage(answering("Plants"), records=MemoryRecords(failures=[DatabaseUnavailable() for _ in range(3)]))

    frames = await stage.run()

    assert kinds(frames)[-1] == "delta"


async def test_a_turn_whose_end_is_another_s_tells_no_end() -> None:
    stage = Stage(answering("Plants"), records=MemoryRecords(failures=[LeaseLost()]))

    frames = await stage.run()

    assert kinds(frames)[-1] == "delta"


async def test_a_frame_never_has_a_number_that_is_not_reserved() -> None:
    stage = Stage(answering("Plants"))
    stage.turn = RunningTurn(
        replace(started_turn(), reserved_seqs=1),
        replies=stage.replies,
        records=stage.records,
        hub=stage.hub,
        settings=ChatSettings(),
    )

    frames = await stage.run()

    assert numbers(frames) == [41]
