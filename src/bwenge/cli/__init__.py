"""The command line: `bwenge up | ask | migrate`."""

from bwenge.cli.app import main

__all__ = ["main"]
