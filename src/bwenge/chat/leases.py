import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import asdict

import structlog

from bwenge.chat.errors import TurnLost
from bwenge.chat.hub import SessionHub
from bwenge.chat.protocol import TurnError, TurnFinished, Typing, error_facts
from bwenge.chat.settings import ChatSettings
from bwenge.chat.turn_records import LostTurn, TurnRecords
from bwenge.chat.turns import StopReason, TurnRunner
from bwenge.persona.contract import Usage

_log = structlog.get_logger(__name__)


class LeaseKeeper:
    """Keeps the leases of this process's turns, and ends the turns of processes that died."""

    def __init__(self, records: TurnRecords, *, turns: TurnRunner, hub: SessionHub, settings: ChatSettings) -> None:
        self._records = records
        self._turns = turns
        self._hub = hub
        self._settings = settings
        self._loops: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        await self.reap()
        self._loops = [
            asyncio.create_task(_every(self._settings.heartbeat_seconds, self.heartbeat)),
            asyncio.create_task(_every(self._settings.reap_seconds, self.reap)),
        ]

    async def stop(self) -> None:
        for loop in self._loops:
            loop.cancel()
        await asyncio.gather(*self._loops, return_exceptions=True)

    async def heartbeat(self) -> None:
        turns = {turn.turn_id: turn for turn in self._turns.turns()}
        if not turns:
            return
        held = await self._records.renew(turns.keys())
        for turn_id in turns.keys() - held:
            self._turns.stop(turns[turn_id].session_id, StopReason.NOT_OURS, turn_id=turn_id)

    async def reap(self) -> None:
        for lost in await self._records.end_expired():
            _log.warning("turn_lost", turn_id=str(lost.turn_id), session_id=str(lost.session_id))
            self._turns.stop(lost.session_id, StopReason.NOT_OURS, turn_id=lost.turn_id)
            self._tell(lost)

    def _tell(self, lost: LostTurn) -> None:
        turn_id, session_id = lost.turn_id, lost.session_id
        facts = error_facts(TurnLost())
        self._hub.publish(TurnError(session_id=session_id, seq=lost.first_seq, turn_id=turn_id, **facts.fields()))
        self._hub.publish(Typing(session_id=session_id, is_typing=False))
        self._hub.publish(
            TurnFinished(
                session_id=session_id,
                seq=lost.first_seq + 1,
                turn_id=turn_id,
                finish_reason="error",
                usage=asdict(Usage()),
            )
        )


async def _every(seconds: float, act: Callable[[], Awaitable[None]]) -> None:
    while True:
        await asyncio.sleep(seconds)
        try:
            await act()
        except Exception:  # noqa: BLE001  # a database that is away for a moment must not end the loop
            _log.warning("lease_keeping_failed", exc_info=True)
