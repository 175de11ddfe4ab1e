"""Identifiers: UUIDv7, made in Python, so that a row's id is known before it is written and sorts by time."""

from uuid import UUID

from uuid_utils.compat import uuid7


def new_id() -> UUID:
    return uuid7()
