"""Where the frames of a WebSocket (RFC 6455, section 5.2) begin and end: no more is read of them."""

from typing import Final

RESTARTS: Final = b"\x88\x02" + (1012).to_bytes(2, "big")
"""A server's close frame that says: connect again."""

_CLOSE: Final = 0x8
_LENGTH_BYTES: Final = {126: 2, 127: 8}


class FrameTrack:
    """Follows one direction of a connection, however its bytes are cut."""

    def __init__(self) -> None:
        self._head = bytearray()
        self._left = 0
        self._is_closed = False

    @property
    def may_close(self) -> bool:
        """Whether a close frame may be put after what has passed: it is whole frames, and none of them was one."""
        return not (self._is_closed or self._left or self._head)

    def feed(self, data: bytes) -> None:
        position = 0
        while position < len(data):
            if self._left:
                passed = min(self._left, len(data) - position)
                self._left -= passed
                position += passed
                continue
            self._head.append(data[position])
            position += 1
            self._read_head()

    def _read_head(self) -> None:
        head = self._head
        if len(head) < 2:  # the opcode and the short length
            return
        short, is_masked = head[1] & 0x7F, head[1] >> 7
        length_bytes = _LENGTH_BYTES.get(short, 0)
        if len(head) < 2 + length_bytes + 4 * is_masked:
            return
        self._left = int.from_bytes(head[2 : 2 + length_bytes], "big") if length_bytes else short
        self._is_closed = self._is_closed or head[0] & 0x0F == _CLOSE
        head.clear()
