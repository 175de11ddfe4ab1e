"""`Idempotency-Key` on routes that create: the same request again is given the same answer, and nothing twice.

A route whose work is done in `TenantSession` takes `once: OnceInSession` and ends with
`return await once.keep(answer)`. One whose service opens its own units of work takes `key: CurrentKey` and hands down
`once=await key.once(render)`, where `render` makes the route's answer from the service's result; see
`bwenge.kit.idempotency.once`. Either way it lists 409 among its refusals.
"""

from collections.abc import AsyncIterator, Callable
from typing import Annotated, Final, TypeVar

from fastapi import Depends, FastAPI, Header, Request, Response
from fastapi.routing import APIRoute
from pydantic import BaseModel
from sqlalchemy.ext.asyncio import AsyncSession

from bwenge.kit.http.dependencies import TenantSession, provided
from bwenge.kit.http.rates import client_network
from bwenge.kit.http.security import OptionalCaller
from bwenge.kit.idempotency.answers import Answer, KeptAnswers
from bwenge.kit.idempotency.once import EVERY_TIME, AnswerKept, KeyedOnce, Once
from bwenge.kit.identity import Caller, Principal

T = TypeVar("T")
A = TypeVar("A", bound=BaseModel)

REPLAYED: Final = "Idempotency-Replayed"
"""The header of an answer that was given before."""

KEPT_HEADERS: Final = frozenset({"cache-control", "location", "set-cookie"})
"""What of a route's own headers belongs to its answer."""

KeyHeader = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=255,
        pattern=r"^[\x20-\x7e]+$",
        description="Of the client's choice. The same request with the same key within 24 hours is answered the same,"
        f" with `{REPLAYED}: true`, and done once",
    ),
]


class RequestKey:
    """The key that the request bears, if any, and what makes another request a twin of this one."""

    def __init__(
        self, request: Request, response: Response, *, key: str | None, caller: Caller | None, answers: KeptAnswers
    ) -> None:
        self._request = request
        self._response = response
        self._key = key
        self._caller = caller
        self._answers = answers

    async def once(self, render: Callable[[T], BaseModel], *, content: bytes | None = None) -> Once[T]:
        """What a use case takes, to do once what is asked twice.

        Args:
            render: Makes the answer of a result as the route does, headers and status of its `Response` included.
            content: What stands for the body where the route streams it.
        """
        if self._key is None:
            return EVERY_TIME
        body = await self._request.body() if content is None else content
        path, query = self._request.scope["path"], self._request.scope["query_string"]
        request = self._answers.keyed(
            whose=_name(self._caller) or f"address:{client_network(self._request)}",
            org_id=self._caller.org_id if isinstance(self._caller, Principal) else None,
            route=f"{self._request.method} {self._route.path}",
            key=self._key,
            content=b"\0".join((path.encode(), query, body)),
        )
        return KeyedOnce(self._answers, request, render=lambda result: self._answer(render(result)))

    @property
    def _route(self) -> APIRoute:
        route: APIRoute = self._request.scope["route"]
        return route

    def _answer(self, model: BaseModel) -> Answer:
        """As FastAPI writes it."""
        return Answer(
            status=self._response.status_code or self._route.status_code or 200,
            body=model.model_dump_json(by_alias=True).encode(),
            headers=[(name, value) for name, value in self._response.headers.items() if name in KEPT_HEADERS],
        )


def _name(caller: Caller | None) -> str | None:
    """An API key is somebody else than its member: it may be confined."""
    if isinstance(caller, Principal) and caller.key_id is not None:
        return f"key:{caller.key_id}"
    return None if caller is None else f"user:{caller.user_id}"


def _request_key(
    request: Request,
    response: Response,
    *,
    caller: OptionalCaller,
    answers: Annotated[KeptAnswers, Depends(provided(KeptAnswers))],
    key: KeyHeader = None,
) -> RequestKey:
    return RequestKey(request, response, key=key, caller=caller, answers=answers)


CurrentKey = Annotated[RequestKey, Depends(_request_key)]


class SessionOnce:
    """A claim in the request's transaction, which was granted."""

    def __init__(self, session: AsyncSession, once: Once[BaseModel]) -> None:
        self._session = session
        self._once = once
        self.has_kept = False

    async def keep(self, answer: A) -> A:
        """Write the route's answer in the request's transaction, as the last thing that the route does."""
        await self._once.keep(self._session, answer)
        self.has_kept = True
        return answer


async def _once_in_session(session: TenantSession, key: CurrentKey) -> AsyncIterator[SessionOnce]:
    once = await key.once(_itself)
    await once.claim(session)
    claimed = SessionOnce(session, once)
    yield claimed
    if not claimed.has_kept:
        raise RuntimeError("a route that creates once has to keep its answer")


def _itself(answer: BaseModel) -> BaseModel:
    return answer


OnceInSession = Annotated[SessionOnce, Depends(_once_in_session, scope="function")]
"""Of routes on `TenantSession`. The route's body runs only where the request is no twin of one that was answered."""


def install_replays(app: FastAPI) -> None:
    """Answer twins with what was kept."""
    app.add_exception_handler(AnswerKept, _on_answer_kept)


async def _on_answer_kept(_request: Request, error: Exception) -> Response:
    if not isinstance(error, AnswerKept):
        raise error
    kept = error.answer
    response = Response(kept.body, status_code=kept.status, media_type="application/json", headers={REPLAYED: "true"})
    for name, value in kept.headers:
        response.headers.append(name, value)
    return response
