"""What the platform adds to a language model's first token: `python -m bench.first_token [--sessions 1 8]`.

The whole platform and a scripted model server run as processes of their own. From the time between a question's
sending and its first delta, the model server's own time between receiving its request and sending its first token is
taken off, question by question; both clocks are the machine's monotonic one.
"""

import argparse
import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final
from uuid import uuid4

import httpx2
import numpy as np

from tests.support.platform import REPOSITORY, Caller, ChatSocket, PlatformProcess

LESSON: Final = REPOSITORY / "src" / "bwenge" / "apps" / "demo" / "lesson.pdf"
SCRIPT: Final = {"tokens": ["Interest", " is", " I", " =", " P", " x r x t", " [1]"], "delay": 0.02}
QUESTIONS: Final = (
    "What is the formula for simple interest?",
    "What is a percentage?",
    "How do I share an amount in a ratio?",
    "What is the unit price of a product?",
    "What is the solution of an equation?",
)
SESSIONS: Final = (1, 8)
ASKED_BY_ONE: Final = 15
"""Questions of one learner at most, the first of which is not counted; the platform admits 20 a minute."""


@dataclass(frozen=True)
class Learner:
    """The owner of an organisation; no other one's persona has the name."""

    caller: Caller
    persona_id: str
    persona_name: str


def run(*, questions: int = 30, sessions: Sequence[int] = SESSIONS) -> dict[str, dict[str, float]]:
    """By number of sessions at once: p50 and p95 of the added milliseconds.

    Args:
        questions: At each number of sessions, all learners together, and at least.
        sessions: How many learners ask at once, each one the next question when the last one is answered.
    """
    with TemporaryDirectory(prefix="bwenge-bench-", ignore_cleanup_errors=True) as folder, _model_server() as address:
        environment = {"BWENGE_LLM_BASE_URL": address, "BWENGE_LLM_MODEL": "scripted"}
        with PlatformProcess(Path(folder) / "data", environment=environment) as platform:
            added = {f"{number} at once": _added(platform.url, address, questions, number) for number in sessions}
    return {
        name: {
            "questions": len(milliseconds),
            "p50_ms": float(np.percentile(milliseconds, 50)),
            "p95_ms": float(np.percentile(milliseconds, 95)),
        }
        for name, milliseconds in added.items()
    }


@contextmanager
def _model_server() -> Iterator[str]:
    command = [sys.executable, "-m", "tests.support.model_server", "--script", json.dumps(SCRIPT)]
    with subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603  # ours
        try:
            assert process.stdout is not None
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


def _added(url: str, address: str, questions: int, at_once: int) -> list[float]:
    """Milliseconds of each question, in groups of learners until there are enough."""
    each = min(ASKED_BY_ONE, -(-questions // at_once))
    added: list[float] = []
    while len(added) < questions:
        learners = [_register(url) for _ in range(at_once)]
        seconds = asyncio.run(_ask_all(learners, questions=each))
        model_seconds = _model_seconds(address, learners)
        added += [(total - model) * 1000 for total, model in zip(seconds, model_seconds, strict=True)]
    return added


async def _ask_all(learners: Sequence[Learner], *, questions: int) -> list[float]:
    """Seconds until each first delta, learner by learner."""
    sessions = await asyncio.gather(*(_ask_in_turn(learner, questions=questions) for learner in learners))
    return [seconds for session in sessions for seconds in session]


async def _ask_in_turn(learner: Learner, *, questions: int) -> list[float]:
    async with learner.caller.chat(learner.persona_id) as socket:
        await socket.until("session_info")
        texts = [QUESTIONS[number % len(QUESTIONS)] for number in range(questions + 1)]
        return [await _ask(socket, text) for text in texts][1:]


async def _ask(socket: ChatSocket, text: str) -> float:
    started = time.monotonic()
    await socket.send(type="user_message", content=text, client_msg_id=str(uuid4()))
    await socket.until("delta")
    seconds = time.monotonic() - started
    await socket.until("turn_finished")
    return seconds


def _model_seconds(address: str, learners: Sequence[Learner]) -> list[float]:
    """The model server's own time until its first token, in the order of `_ask_all`."""
    records = httpx2.get(f"{address.removesuffix('/v1')}/_records", trust_env=False).json()
    sessions = [[record for record in records if _is_for(learner, record)][1:] for learner in learners]
    return [record["token_times"][0] - record["received_at"] for session in sessions for record in session]


def _is_for(learner: Learner, record: dict[str, Any]) -> bool:
    """A prompt begins with the persona's name."""
    return learner.persona_name in str(record["body"]["messages"][0]["content"])


def _register(url: str) -> Learner:
    caller = Caller.register(url)
    name = f"Gabriel {uuid4().hex}"
    persona_id = caller.create_persona(name)
    caller.add_document(persona_id, LESSON)
    return Learner(caller, persona_id, name)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--questions", type=int, default=30)
    parser.add_argument("--sessions", type=int, nargs="+", default=SESSIONS)
    print(json.dumps(run(**vars(parser.parse_args())), indent=2))


if __name__ == "__main__":
    main()
