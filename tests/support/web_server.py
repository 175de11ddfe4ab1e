"""A web server inside of the test's process, whose signals stay the test's."""

import contextlib
from contextlib import AbstractContextManager

import uvicorn


class ServerInTest(uvicorn.Server):
    def capture_signals(self) -> AbstractContextManager[None]:  # type: ignore[override]  # entered by `with` only
        return contextlib.nullcontext()
