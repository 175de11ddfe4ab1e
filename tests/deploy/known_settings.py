"""Which names of environment variables mean something to the product."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final

import pytest
from pydantic import AliasChoices

from bwenge.apps.settings import Settings

SPLIT_TOPOLOGY: Final = frozenset(
    {
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_ENDPOINT_URL",
        "AWS_REGION",
        "WEAVIATE_URL",
    }
)
"""Read beside the fields of Settings."""


def known_settings() -> frozenset[str]:
    return frozenset(_names()) | SPLIT_TOPOLOGY


def _names() -> Iterator[str]:
    prefix = Settings.model_config["env_prefix"]
    for name, field in Settings.model_fields.items():
        if isinstance(field.validation_alias, AliasChoices):
            yield from map(str, field.validation_alias.choices)
        else:
            yield f"{prefix}{name}".upper()


@contextmanager
def environment(values: Mapping[str, str]) -> Iterator[None]:
    """These variables and no others."""
    with pytest.MonkeyPatch.context() as patch:
        for name in os.environ:
            patch.delenv(name)
        for name, value in values.items():
            patch.setenv(name, value)
        yield


def settings_of(values: Mapping[str, str]) -> Settings:
    """What a process reads from its environment.

    Raises:
        ValidationError: It would refuse to start.
    """
    with environment(values):
        return Settings(_env_file=None)
