"""Doing once what is asked twice, for use cases that open their own units of work.

A use case takes `once: Once[Result] = EVERY_TIME`. In the unit of work that brings the result about, it claims before
it looks at anything and keeps the result as its last act; where it ends early with an answer, it keeps that one.
"""

from collections.abc import Callable
from typing import Final, Generic, Protocol, TypeVar
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from bwenge.kit.idempotency.answers import Answer, KeptAnswers, KeyedRequest

T = TypeVar("T")
T_contra = TypeVar("T_contra", contravariant=True)


class AnswerKept(Exception):
    """The request was answered before; nothing is to be done again, and whoever asked gets that same answer."""

    def __init__(self, answer: Answer) -> None:
        super().__init__("answered before")
        self.answer = answer


class Once(Protocol[T_contra]):
    """A request that may be a twin of another one."""

    async def claim(self, session: AsyncSession) -> None:
        """Keep twins waiting until the session's transaction ends.

        Raises:
            AnswerKept: It is to reach whoever answers the request.
            IdempotencyKeyReused, IdempotencyInProgress
        """
        ...

    async def keep(self, session: AsyncSession, result: T_contra, *, org_id: UUID | None = None) -> None:
        """Write the answer that tells of the result, in the result's own transaction.

        `org_id` is the tenant that the result belongs to, where that is not the caller's.
        """
        ...


class EveryTime:
    """A request without a key is one of its own."""

    async def claim(self, session: AsyncSession) -> None:
        """It has no twins."""

    async def keep(self, session: AsyncSession, result: object, *, org_id: UUID | None = None) -> None:
        """Nobody asks for it again."""


EVERY_TIME: Final = EveryTime()


class KeyedOnce(Generic[T]):
    """A request that bears a key.

    Args:
        render: The answer that tells of a result.
    """

    def __init__(self, answers: KeptAnswers, request: KeyedRequest, *, render: Callable[[T], Answer]) -> None:
        self._answers = answers
        self._request = request
        self._render = render

    async def claim(self, session: AsyncSession) -> None:
        answer = await self._answers.claim(session, self._request)
        if answer is not None:
            raise AnswerKept(answer)

    async def keep(self, session: AsyncSession, result: T, *, org_id: UUID | None = None) -> None:
        await self._answers.keep(session, self._request, self._render(result), org_id=org_id)
