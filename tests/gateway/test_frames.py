"""However a stream of frames is cut, its track knows when a close frame may follow."""

from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode

from bwenge.gateway.frames import RESTARTS, FrameTrack

OPCODES = st.sampled_from([Opcode.TEXT, Opcode.BINARY, Opcode.CONT, Opcode.PING, Opcode.PONG])
LENGTHS = st.sampled_from([0, 1, 2, 125, 126, 127, 300, 65_535, 65_536, 70_000])
FRAMES = st.lists(st.tuples(OPCODES, LENGTHS, st.booleans()), max_size=6)


def written(opcode: Opcode, length: int, *, is_masked: bool) -> bytes:
    length = min(length, 125) if opcode in {Opcode.PING, Opcode.PONG} else length
    return Frame(opcode, b"\x88" * length).serialize(mask=is_masked)


@given(FRAMES, st.data())
def test_a_track_knows_where_frames_end(frames: list[tuple[Opcode, int, bool]], data: st.DataObject) -> None:
    stream, ends = b"", {0}
    for opcode, length, is_masked in frames:
        stream += written(opcode, length, is_masked=is_masked)
        ends.add(len(stream))
    near = sorted({min(max(end + step, 0), len(stream)) for end in ends for step in (-2, -1, 0, 1, 2, 3, 9)})
    cuts = data.draw(st.lists(st.sampled_from(near) | st.integers(0, len(stream)), max_size=20))
    track, position = FrameTrack(), 0
    for cut in [*sorted(cuts), len(stream)]:
        track.feed(stream[position:cut])
        position = cut
        assert track.may_close == (position in ends)


@given(FRAMES)
def test_no_close_frame_follows_another_one(frames: list[tuple[Opcode, int, bool]]) -> None:
    track = FrameTrack()
    track.feed(RESTARTS)
    assert not track.may_close
    for opcode, length, is_masked in frames:
        track.feed(written(opcode, length, is_masked=is_masked))
        assert not track.may_close


def test_the_close_frame_is_one() -> None:
    assert Frame(Opcode.CLOSE, (1012).to_bytes(2, "big")).serialize(mask=False) == RESTARTS
