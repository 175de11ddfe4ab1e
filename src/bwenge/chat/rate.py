import time
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Final
from uuid import UUID

from bwenge.chat.errors import TooManyQuestions

WINDOW_SECONDS: Final = 60.0


class QuestionRate:
    """At most `limit` questions of a user in any minute, counted by a sliding window. Refused ones do not count."""

    def __init__(self, limit: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit = limit
        self._clock = clock
        self._asked: OrderedDict[UUID, deque[float]] = OrderedDict()

    def admit(self, user_id: UUID) -> None:
        """Count one question.

        Raises:
            TooManyQuestions: With the seconds after which the next one is admitted.
        """
        now = self._clock()
        self._forget_the_silent(now)
        times = self._asked.setdefault(user_id, deque())
        while times and now - times[0] >= WINDOW_SECONDS:
            times.popleft()
        if len(times) >= self._limit:
            raise TooManyQuestions(retry_after=WINDOW_SECONDS - (now - times[0]))
        times.append(now)
        self._asked.move_to_end(user_id)

    def _forget_the_silent(self, now: float) -> None:
        """Drop users whose last question is out of the window; the one who asked longest ago stands first."""
        while self._asked:
            user_id, times = next(iter(self._asked.items()))
            if now - times[-1] < WINDOW_SECONDS:
                return
            del self._asked[user_id]
