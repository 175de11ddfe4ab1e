"""Which key signs access tokens. Keys are derived from the master secret by their generation; a file counts them.

See docs/decisions/0007: no key is stored, and processes that hold the same secret need not tell each other a new one,
for each of them verifies with the next generation before it is signed with.
"""

import asyncio
import json
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Final

import structlog

from bwenge.apps.secrets import Secrets
from bwenge.auth.tokens import ACCESS_TOKEN_LIFETIME, Clock, TokenKeys, public_key_pem, utc_now
from bwenge.kit.data_directory import DataDirectoryLock

_log = structlog.get_logger(__name__)

FILE_NAME: Final = "signing.json"
KEPT: Final = 2 * ACCESS_TOKEN_LIFETIME
"""For how long a retired key verifies: a token's life, and as long again for processes that are told later."""
CHECK_SECONDS: Final = 5.0


class DamagedKeyCount(RuntimeError):
    """The file does not say which key signs; another one than the last would refuse the tokens of every session."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"{path} is damaged; restore it from a backup")


@dataclass(frozen=True)
class KeySet:
    """Attributes: others_pem: public keys that verify too."""

    signing_key_pem: str = field(repr=False)
    others_pem: Sequence[str]


class SigningKeys:
    """The keys of one data directory."""

    def __init__(self, secrets: Secrets, data_dir: Path, *, clock: Clock = utc_now) -> None:
        self._secrets = secrets
        self._data_dir = data_dir
        self._path = data_dir / FILE_NAME
        self._clock = clock
        self._following: asyncio.Task[None] | None = None

    def present(self) -> KeySet:
        """The signing key; and the next one, with those that were retired a short time ago.

        Raises:
            DamagedKeyCount
        """
        retired_at = self._read()
        generation, now = len(retired_at), self._clock()
        others = [generation + 1, *(number for number, at in enumerate(retired_at) if now < at + KEPT)]
        pem = self._secrets.signing_key_pem
        return KeySet(pem(generation), tuple(public_key_pem(pem(number)) for number in others))

    def rotate(self) -> datetime:
        """Sign with the next key from now on. Returns until when the last one verifies.

        Raises:
            DamagedKeyCount
            DataDirectoryInUse: Another process does the same at this moment.
        """
        with DataDirectoryLock(self._data_dir, name="signing.lock"):
            now = self._clock()
            self._write([*self._read(), now])
        return now + KEPT

    def start(self, keys: TokenKeys) -> None:
        """Keep `keys` as the file says, until `stop`."""
        self._following = asyncio.create_task(self._follow(keys))

    async def stop(self) -> None:
        if self._following is not None:
            self._following.cancel()
            with suppress(asyncio.CancelledError):
                await self._following

    async def _follow(self, keys: TokenKeys) -> None:
        known: KeySet | None = None
        while True:
            try:
                present = await asyncio.to_thread(self.present)
            except (OSError, DamagedKeyCount):
                _log.exception("signing_keys_unreadable")
            else:
                if present != known:
                    keys.replace(present.signing_key_pem, other_public_keys_pem=present.others_pem)
                    known = present
            await asyncio.sleep(CHECK_SECONDS)

    def _read(self) -> list[datetime]:
        """When each generation was retired, from the first on; as many as there were rotations."""
        try:
            content = json.loads(self._path.read_bytes())
            moments = [datetime.fromisoformat(moment) for moment in content["retired_at"]]
        except FileNotFoundError:
            return []
        except (ValueError, TypeError, KeyError) as error:
            raise DamagedKeyCount(self._path) from error
        if any(moment.tzinfo is None for moment in moments):
            raise DamagedKeyCount(self._path)
        return moments

    def _write(self, retired_at: Sequence[datetime]) -> None:
        """Whole or not at all, and for its owner only."""
        draft = self._path.with_suffix(".tmp")
        draft.unlink(missing_ok=True)
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            json.dump({"retired_at": [moment.isoformat() for moment in retired_at]}, file)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(self._path)
