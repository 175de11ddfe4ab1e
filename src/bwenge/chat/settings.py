from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ChatSettings:
    """Limits and times of chat; the protocol's figures unless an operator changes them. Times are seconds."""

    questions_per_minute: int = 20
    sockets_per_user: int = 8
    queue_frames: int = 1_000
    queue_bytes: int = 1 << 20
    lease_seconds: float = 9.0
    heartbeat_seconds: float = 3.0
    reap_seconds: float = 5.0
    """With the lease, the longest that a turn outlives its owner: 14 s of the 15 that the protocol allows."""

    turn_seconds: float = 300.0
    drain_seconds: float = 20.0
    block_size: int = 512
    """Frame numbers reserved at a time, at least the few that end a turn; most answers need one block."""

    history_messages: int = 10
    """Messages replayed to a connecting socket, and given to the persona as context."""
