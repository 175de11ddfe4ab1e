"""Bwenge OS: AI personas that teach from a teacher's own material."""

__version__ = "0.1.0"
