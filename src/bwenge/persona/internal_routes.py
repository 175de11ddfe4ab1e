"""What another service of the platform asks of this one: a reply, as lines of JSON while it is made."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Annotated

import structlog
from fastapi import APIRouter, Depends, Request
from fastapi.responses import StreamingResponse

from bwenge.kit.errors import BwengeError
from bwenge.kit.http.dependencies import provided
from bwenge.kit.http.service_calls import service
from bwenge.persona.contract import ReplyRequest
from bwenge.persona.replies import PersonaReplies
from bwenge.persona.reply_lines import CALLER, PATH, decode_request, encode_event, encode_failure

_log = structlog.get_logger(__name__)

router = APIRouter(include_in_schema=False)


@router.post(PATH, dependencies=[service(CALLER)])
async def reply(
    request: Request, replies: Annotated[PersonaReplies, Depends(provided(PersonaReplies))]
) -> StreamingResponse:
    """One line for each event of the reply; the last one is the reply itself, or what broke it off."""
    asked = decode_request(await request.body())
    return StreamingResponse(_lines(replies, asked), media_type="application/x-ndjson")


async def _lines(replies: PersonaReplies, request: ReplyRequest) -> AsyncIterator[bytes]:
    async with aclosing(replies.stream(request)) as events:
        try:
            async for event in events:
                yield encode_event(event)
        except BwengeError as error:
            yield encode_failure(error)
        except Exception as error:  # noqa: BLE001  # the status is sent; what is left is to tell the caller and the log
            _log.error("reply_failed", exc_info=error)
            yield encode_failure(BwengeError())
