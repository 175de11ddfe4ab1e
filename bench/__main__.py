"""Every bench that fits a coffee break, as tables: `make bench`.

Figures say what this machine did; ratios and limits travel. Quote them from a machine that does nothing else.
"""

import argparse
import os
import platform
from collections.abc import Callable, Mapping
from typing import Any

from bench import embedding, first_token, gateway, ingestion, logins, memory, search
from bwenge.kit.telemetry import configure_logging

Tables = Mapping[str, Mapping[str, Any]]


def _embedding(*, scale: bool) -> Tables:
    return {"Embedding texts of 256 tokens: python -m bench.embedding": embedding.run(rounds=10 if scale else 3)}


def _memory(*, scale: bool) -> Tables:
    return {"Start and memory: python -m bench.memory": memory.run(questions=100 if scale else 10)}


def _ingestion(*, scale: bool) -> Tables:
    return {"Memory to index a text: python -m bench.ingestion": ingestion.run(megabytes=20 if scale else 5)}


def _first_token(*, scale: bool) -> Tables:
    results = first_token.run(questions=100, sessions=(1, 8, 32)) if scale else first_token.run()
    return {
        f"Added to the model's first token, {name}: python -m bench.first_token": row for name, row in results.items()
    }


def _gateway(*, scale: bool) -> Tables:
    results = gateway.run(requests=20_000) if scale else gateway.run()
    return {f"Through the gateway, {name}: python -m bench.gateway": row for name, row in results.items()}


def _logins(*, scale: bool) -> Tables:
    return {"Reading beside 8 logins at once: python -m bench.logins": logins.run(reads=1000 if scale else 300)}


def _search(*, scale: bool) -> Tables:
    results = search.run(chunks=100_000, personas=50, questions=500) if scale else search.run()
    return {f"Search, {name}: python -m bench.search": row for name, row in results.items()}


BENCHES: Mapping[str, Callable[..., Tables]] = {
    "embedding": _embedding,
    "memory": _memory,
    "ingestion": _ingestion,
    "first_token": _first_token,
    "gateway": _gateway,
    "logins": _logins,
    "search": _search,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--scale", action="store_true", help="more chunks, questions and sessions; takes long")
    parser.add_argument("--only", choices=BENCHES, nargs="+", default=list(BENCHES))
    options = parser.parse_args()
    configure_logging(level="WARNING")
    print(f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}")
    for name in options.only:
        print(f"\nload average {os.getloadavg()[0]:.2f}, before {name}", flush=True)
        for title, figures in BENCHES[name](scale=options.scale).items():
            print(f"\n{title}\n{table(figures)}", flush=True)


def table(figures: Mapping[str, Any]) -> str:
    """One figure a line, numbers under each other."""
    width = max(map(len, figures))
    return "\n".join(
        f"  {name:{width}} {f'{value:10.2f}' if isinstance(value, int | float) else f'   {value}'}"
        for name, value in figures.items()
    )


if __name__ == "__main__":
    main()
