"""The services behind the gateway: where each listens, its connections and its circuit."""

import asyncio
from http import HTTPStatus
from typing import Final
from urllib.parse import urlsplit

from bwenge.gateway.circuit import Circuit
from bwenge.gateway.errors import ServiceUnavailable
from bwenge.gateway.fields import head_bytes
from bwenge.gateway.metrics import CIRCUIT_OPEN
from bwenge.gateway.pool import UpstreamPool
from bwenge.gateway.settings import GatewaySettings

_READY: Final = b"GET /health/ready HTTP/1.1\r\n"


class Service:
    """One of the processes that answer.

    Args:
        url: `http://host:port`, and nothing after it; ValueError for another one.
    """

    def __init__(self, name: str, url: str, settings: GatewaySettings) -> None:
        parts = urlsplit(url)
        if parts.scheme != "http" or not parts.hostname or parts.port is None or parts.path not in {"", "/"}:
            raise ValueError(f"{name} needs an address such as http://127.0.0.1:8001")
        self.name = name
        self.authority = parts.netloc.encode()
        self.pool = UpstreamPool(parts.hostname, parts.port, settings)
        self._settings = settings
        self._circuit = Circuit(failures=settings.circuit_failures, open_seconds=settings.circuit_seconds)
        CIRCUIT_OPEN.labels(name).set_function(lambda: float(self._circuit.is_open))

    def admit(self) -> None:
        """Raise `ServiceUnavailable` while the service is left alone."""
        self._circuit.admit()

    def answered(self) -> None:
        self._circuit.succeeded()

    def failed(self) -> None:
        self._circuit.failed()

    async def check_ready(self) -> None:
        """Raise whatever keeps it from saying that it is ready; its circuit is neither asked nor told."""
        async with asyncio.timeout(self._settings.ready_seconds):
            connection = await self.pool.acquire()
            try:
                connection.begin(head_bytes(_READY, [(b"host", self.authority)]), is_to_head=False, has_body=False)
                answer = await connection.head(seconds=self._settings.ready_seconds)
                is_last = False
                while not is_last:
                    _, is_last = await connection.piece(seconds=self._settings.ready_seconds)
                if answer.status != HTTPStatus.OK:
                    raise ServiceUnavailable
            finally:
                self.pool.release(connection)
