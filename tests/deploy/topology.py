"""The processes of the split topology, as the files in deploy/ must start them."""

from itertools import pairwise
from typing import Final

from bwenge.apps import topology
from bwenge.kit.jobs import queues

SERVICES: Final = tuple(topology.SERVICES)

PORTS: Final = {name: topology.port_of(name, base_port=8000) for name in (topology.GATEWAY, *SERVICES)}
"""What answers requests, and where."""

QUEUES: Final = frozenset(queues.QUEUES)

EMBEDDING: Final = frozenset({"worker", *(name for name, service in topology.SERVICES.items() if service.embeds)})
"""What loads the embedding model."""

MODEL_MEMORY: Final = 250 * 1024**2
PARSER_MEMORY: Final = 768 * 1024**2
"""What a process holds for the embedding model, and what one that reads an untrusted file may take."""


CONNECTIONS: Final = max(service.pools.total for service in topology.SERVICES.values())
"""What a process that uses the database may open at most; those of a worker open fewer."""


def options(arguments: list[str]) -> dict[str, str]:
    """The values of `--name value` in a command line."""
    return {name.removeprefix("--"): value for name, value in pairwise(arguments) if name.startswith("--")}


def memory(quantity: str) -> int:
    """Bytes of `512m`, `2g` (Compose) or `512Mi`, `2Gi` (Kubernetes)."""
    unit = {"k": 1024, "m": 1024**2, "g": 1024**3}[quantity.lower().removesuffix("i")[-1]]
    return int(quantity.rstrip("iIkKmMgG")) * unit
