"""`bwenge ask`: the answer as it streams, and its sources."""

import asyncio
import json
import sys
import textwrap
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode
from uuid import UUID, uuid4

import websockets
from rich.console import Console

from bwenge.apps.settings import Settings
from bwenge.cli.connection import DemoAccounts, Platform, connected
from bwenge.cli.documents import persona_of_document, personas_of, upload
from bwenge.cli.excerpts import excerpt
from bwenge.cli.failures import CommandFailed

QUOTE_CHARACTERS: Final = 240
ANSWER_SECONDS: Final = 180


def ask_question(question: str, *, persona: str | None, file: Path | None, settings: Settings, output: Console) -> None:
    """Raise `CommandFailed` where there is no answer to show."""
    if not question.strip():
        raise CommandFailed("The question is empty.")
    with connected(settings.data_dir, uploads=file is not None) as (platform, demo):
        if file is None or persona:
            persona_id = _persona_id(platform, persona, demo)
            if file is not None:
                upload(platform, persona_id, file, output)
        else:
            persona_id = persona_of_document(platform, file, output)
        answer = asyncio.run(_converse(platform, persona_id, question, output))
        _show_sources(answer, platform, output)


def _persona_id(platform: Platform, wanted: str | None, demo: DemoAccounts | None) -> str:
    if wanted is None and demo is not None:
        return demo.persona_id
    personas = list(personas_of(platform))
    if wanted is None:
        if len(personas) == 1:
            return str(personas[0]["persona_id"])
        raise CommandFailed(
            f"Choose a persona with --persona: {', '.join(item['name'] for item in personas) or 'none yet'}."
        )
    for item in personas:
        if wanted.casefold() == item["name"].casefold() or wanted == item["persona_id"]:
            return str(item["persona_id"])
    try:
        return str(UUID(wanted))
    except ValueError:
        names = ", ".join(item["name"] for item in personas) or "none yet"
        raise CommandFailed(f"There is no persona called {wanted}. There are: {names}.") from None


async def _converse(platform: Platform, persona_id: str, question: str, output: Console) -> dict[str, Any]:
    """One turn over the chat socket; the answer's message."""
    scheme, _, rest = platform.url.partition("://")
    address = f"{'wss' if scheme == 'https' else 'ws'}://{rest}/ws/chat?{urlencode({'persona_id': persona_id})}"
    try:
        async with (
            asyncio.timeout(ANSWER_SECONDS),
            websockets.connect(
                address, additional_headers={"Authorization": f"Bearer {platform.token}"}, proxy=None
            ) as socket,
        ):
            await socket.send(json.dumps({"type": "user_message", "content": question, "client_msg_id": str(uuid4())}))
            return await _read_turn(socket, output)
    except websockets.InvalidStatus as error:
        raise CommandFailed(f"The platform refused the conversation ({error.response.status_code}).") from error
    except TimeoutError as error:  # before OSError, of which it is one
        raise CommandFailed(f"No answer came within {ANSWER_SECONDS} seconds.") from error
    except (OSError, websockets.WebSocketException) as error:
        raise CommandFailed(f"The connection to {platform.url} was lost.") from error


async def _read_turn(socket: websockets.ClientConnection, output: Console) -> dict[str, Any]:
    answer: dict[str, Any] = {}
    failure: str | None = None
    async for raw in socket:
        frame = json.loads(raw)
        match frame["type"]:
            case "delta":
                output.out(frame["text"], end="", highlight=False)
                sys.stdout.flush()
            case "message" if frame["message"]["sender"] == "assistant" and not frame.get("history"):
                answer = frame["message"]
            case "error":
                failure = f"{frame['message']} ({frame['code']}){_when(frame.get('retry_after'))}"
                if not frame.get("turn_id"):
                    raise CommandFailed(failure)
            case "turn_finished":
                output.out("")
                if failure is not None or not answer:
                    raise CommandFailed(failure or "The platform ended the turn without an answer.")
                return answer
    raise CommandFailed("The platform ended the conversation before the answer was complete.")


def _show_sources(answer: dict[str, Any], platform: Platform, output: Console) -> None:
    details = answer["metadata"]
    if not details["citations"]:
        return
    output.print("\n[bold]Sources[/bold]")
    for citation in details["citations"]:
        output.print(f"[{citation['marker']}] {citation['title']}{_place(citation['locator'])}", markup=False)
        quote = excerpt(citation["text"], answer["content"], most=QUOTE_CHARACTERS)
        output.print(textwrap.indent(textwrap.fill(f"“{quote}”", 96), "    "), markup=False)
        output.print(f"    {platform.url}{citation['source_url']}", markup=False, style="dim")


def _when(retry_after: float | None) -> str:
    return "" if retry_after is None else f"; try again in {retry_after:.0f} seconds"


def _place(locator: dict[str, Any]) -> str:
    if "page" in locator:
        return f", page {locator['page']}"
    if "heading" in locator:
        return f", “{locator['heading']}”"
    return ""
