"""What a program does to the logging of its process, undone for the tests that come after it in the same one."""

import functools
import logging
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import structlog


@contextmanager
def logging_restored(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """While the block runs, a configuration is taken up by every logger and kept by none; afterwards it is gone."""
    root = logging.getLogger()
    handlers, level, configuration = root.handlers, root.level, structlog.get_config()
    configure = structlog.configure

    @functools.wraps(configure)
    def configure_without_cache(*arguments: object, **options: object) -> None:
        configure(*arguments, **options | {"cache_logger_on_first_use": False})  # type: ignore[arg-type]  # passed on

    with monkeypatch.context() as patched:
        patched.setattr(structlog, "configure", configure_without_cache)
        try:
            yield
        finally:
            configure(**configuration)
            made, root.handlers = root.handlers, handlers
            for handler in made:
                if handler not in handlers:
                    handler.close()
            root.setLevel(level)
