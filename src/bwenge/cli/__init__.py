"""The command line: `bwenge up | worker | beat | ask | migrate | grant`."""

import sys


def main() -> None:
    """Run the command line; its imports take a moment, in which Control-C is no error either."""
    try:
        from bwenge.cli.app import main as run  # noqa: PLC0415  # so that an interruption of it can be caught

        run()
    except KeyboardInterrupt:
        sys.exit(130)


__all__ = ["main"]
