"""Deltas joined to sentences, by law and by example."""

from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from bwenge.chat.detail import SentenceJoiner
from bwenge.chat.protocol import Animation, Delta, NumberedFrame, ServerFrame, TurnFinished, Typing, Viseme

ID = UUID("01900000-0000-7000-8000-000000000001")
PIECES = st.lists(st.text(alphabet="ab .!?\n…\"'ĩ。", max_size=12), max_size=40)


def delta(seq: int, text: str) -> Delta:
    return Delta(session_id=ID, seq=seq, turn_id=ID, text=text)


def animation(seq: int) -> Animation:
    return Animation(session_id=ID, seq=seq, turn_id=ID, animation="talking")


def end(seq: int) -> TurnFinished:
    return TurnFinished(session_id=ID, seq=seq, turn_id=ID, finish_reason="stop", usage={})


def fed(frames: list[ServerFrame]) -> list[ServerFrame]:
    joiner = SentenceJoiner()
    return [released for frame in frames for released in joiner.feed(frame)]


def texts(frames: list[ServerFrame]) -> list[str]:
    return [frame.text for frame in frames if isinstance(frame, Delta)]


@given(PIECES)
def test_no_text_is_lost_or_changed(pieces: list[str]) -> None:
    frames: list[ServerFrame] = [delta(seq, piece) for seq, piece in enumerate(pieces, start=1)]

    released = fed([*frames, end(len(pieces) + 1)])

    assert "".join(texts(released)) == "".join(pieces)


@given(PIECES, st.integers(min_value=0, max_value=40))
def test_a_reader_has_the_text_of_every_number_up_to_the_last_one_it_saw(pieces: list[str], cut: int) -> None:
    frames: list[ServerFrame] = [delta(seq, piece) for seq, piece in enumerate(pieces, start=1)]

    seen = fed([*frames, end(len(pieces) + 1)])[:cut]

    last_seq = max((frame.seq for frame in seen if isinstance(frame, NumberedFrame)), default=0)
    assert "".join(texts(seen)) == "".join(pieces[:last_seq])


@given(PIECES)
def test_numbers_still_rise(pieces: list[str]) -> None:
    frames: list[ServerFrame] = [delta(seq, piece) for seq, piece in enumerate(pieces, start=1)]

    seqs = [frame.seq for frame in fed([*frames, end(len(pieces) + 1)]) if isinstance(frame, NumberedFrame)]

    assert seqs == sorted(set(seqs))


def test_a_sentence_is_let_out_when_it_ends() -> None:
    assert texts(fed([delta(1, "Plants "), delta(2, "grow."), delta(3, " Cats")])) == ["Plants grow."]


def test_a_line_is_let_out_when_it_ends() -> None:
    assert texts(fed([delta(1, "- water\n"), delta(2, "- light")])) == ["- water\n"]


def test_a_decimal_point_inside_of_a_delta_ends_no_sentence() -> None:
    assert texts(fed([delta(1, "Pi is 3.14 or")])) == []


def test_a_sentence_without_end_is_let_out_at_last() -> None:
    assert texts(fed([delta(1, "a" * 999), delta(2, "b")])) == ["a" * 999 + "b"]


def test_what_is_held_goes_before_another_frame() -> None:
    typing = Typing(session_id=ID, is_typing=False)

    assert fed([delta(1, "Plants"), typing]) == [delta(1, "Plants"), typing]


def test_gestures_are_left_out_and_do_not_part_a_sentence() -> None:
    viseme = Viseme(session_id=ID, seq=3, turn_id=ID, visemes=["aa"], vtimes=[0], vdurations=[80])

    assert fed([delta(1, "Plants"), animation(2), viseme, delta(4, " grow.")]) == [delta(4, "Plants grow.")]
