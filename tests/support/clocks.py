"""Time that passes when a test says so."""

from dataclasses import dataclass


@dataclass
class ManualClock:
    """In seconds, as `time.monotonic` and `time.time` give them."""

    now: float = 1000.0

    def __call__(self) -> float:
        return self.now
