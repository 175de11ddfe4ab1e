"""Stored messages as they are told now: what they cite has a fresh address, and a source that was deleted is not cited.

A signature lasts an hour and a message for years.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from bwenge.chat.models import Message
from bwenge.chat.schemas import MessageBody, MessageMetadata
from bwenge.knowledge.contract import CitedSources


async def message_body(session: AsyncSession, message: Message, *, links: CitedSources) -> MessageBody:
    [body] = await message_bodies(session, [message], links=links)
    return body


async def message_bodies(
    session: AsyncSession, messages: Sequence[Message], *, links: CitedSources
) -> list[MessageBody]:
    """The messages of one organisation, in their order."""
    openable: Collection[UUID] = ()
    cited = {UUID(citation["source_id"]) for message in messages for citation in message.details.get("citations", ())}
    if cited:
        openable = await links.openable(session, cited, messages[0].org_id)
    return [_body(message, openable=openable, links=links) for message in messages]


def _body(message: Message, *, openable: Collection[UUID], links: CitedSources) -> MessageBody:
    metadata = MessageMetadata.model_validate(message.details)
    citations = [citation for citation in metadata.citations if UUID(citation["source_id"]) in openable]
    if metadata.citations and not citations:
        metadata.grounded = False
    metadata.citations = [_signed(citation, message.org_id, links=links) for citation in citations]
    addresses = {citation["marker"]: citation["source_url"] for citation in metadata.citations}
    metadata.actions = [told for action in metadata.actions if (told := _opening(action, addresses)) is not None]
    return MessageBody(
        message_id=message.id,
        sender="user" if message.sender == "user" else "assistant",
        content=message.content,
        timestamp=message.created_at,
        metadata=metadata,
    )


def _signed(citation: Mapping[str, Any], org_id: UUID, *, links: CitedSources) -> dict[str, Any]:
    url = links.source_url(UUID(citation["source_id"]), org_id, locator=citation["locator"])
    return {**citation, "source_url": url}


def _opening(action: dict[str, Any], addresses: Mapping[int, str]) -> dict[str, Any] | None:
    """The action; one that opens a source with the address of its citation, or None where that is gone."""
    if action["type"] != "open_source":
        return action
    marker = action["payload"]["marker"]
    return {**action, "payload": {**action["payload"], "url": addresses[marker]}} if marker in addresses else None
