"""The processes of the split topology, as the files in deploy/ must start them."""

from itertools import pairwise
from typing import Final

from bwenge.kit.db import POOL_SIZE, STEWARD_POOL_SIZE

PORTS: Final = {
    "gateway": 8000,
    "auth": 8001,
    "ingest": 8002,
    "persona": 8003,
    "chat": 8004,
    "3d": 8005,
    "analytics": 8006,
    "payments": 8007,
}
"""What answers requests, and where."""

SERVICES: Final = tuple(name for name in PORTS if name != "gateway")

QUEUES: Final = frozenset({"extraction", "transcription", "embedding", "maintenance", "reports"})

EMBEDDING: Final = frozenset({"ingest", "persona", "worker"})
"""What loads the embedding model."""

MODEL_MEMORY: Final = 250 * 1024**2
PARSER_MEMORY: Final = 768 * 1024**2
"""What a process holds for the embedding model, and what one that reads an untrusted file may take."""


CONNECTIONS: Final = 2 * POOL_SIZE + STEWARD_POOL_SIZE + 1
"""What a process that uses the database may open: its pools, and one that listens."""


def options(arguments: list[str]) -> dict[str, str]:
    """The values of `--name value` in a command line."""
    return {name.removeprefix("--"): value for name, value in pairwise(arguments) if name.startswith("--")}


def memory(quantity: str) -> int:
    """Bytes of `512m`, `2g` (Compose) or `512Mi`, `2Gi` (Kubernetes)."""
    unit = {"k": 1024, "m": 1024**2, "g": 1024**3}[quantity.lower().removesuffix("i")[-1]]
    return int(quantity.rstrip("iIkKmMgG")) * unit
