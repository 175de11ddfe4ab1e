"""Leave a service that fails alone for a moment: its clients hear so at once, and it has air to come back."""

import time
from collections.abc import Callable

from bwenge.gateway.errors import ServiceUnavailable


class Circuit:
    """Opens after `failures` in a row; then lets one request through in every `open_seconds`, until one is answered.

    That next probe does not wait for the end of the one before, which may be a question that takes minutes.
    """

    def __init__(self, *, failures: int, open_seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._most = failures
        self._open_seconds = open_seconds
        self._clock = clock
        self._failures = 0
        self._closed_from: float | None = None

    @property
    def is_open(self) -> bool:
        return self._closed_from is not None

    def admit(self) -> None:
        """Let a request through, or raise `ServiceUnavailable` with the seconds until the next probe."""
        if self._closed_from is None:
            return
        now = self._clock()
        if now < self._closed_from:
            raise ServiceUnavailable(retry_after=self._closed_from - now)
        self._closed_from = now + self._open_seconds

    def succeeded(self) -> None:
        """The service answered, whatever the status."""
        self._failures = 0
        self._closed_from = None

    def failed(self) -> None:
        """It took no connection, or gave no head of an answer."""
        self._failures += 1
        if self._failures >= self._most:
            self._closed_from = self._clock() + self._open_seconds
