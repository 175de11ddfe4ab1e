"""Where the platform is and who asks: BWENGE_URL with BWENGE_TOKEN, else the demo accounts of the data directory."""

import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final

import httpx2
from pydantic import BaseModel, ConfigDict, ValidationError

from bwenge.cli.failures import CommandFailed

DEMO_FILE: Final = "demo.json"


class Platform:
    """A signed-in connection to a platform's HTTP API."""

    def __init__(self, url: str, token: str | None) -> None:
        self.url = url.rstrip("/")
        self._client = httpx2.Client(base_url=self.url, timeout=httpx2.Timeout(60, connect=5), trust_env=False)
        self.token = token

    def close(self) -> None:
        self._client.close()

    def sign_in(self, identifier: str, password: str) -> None:
        answer = self.call("POST", "/auth/login", json={"identifier": identifier, "password": password})
        self.token = str(answer["access_token"])

    def call(self, method: str, path: str, **options: Any) -> Any:
        """The answer's JSON.

        Raises:
            CommandFailed: with the platform's own words, or that it is not there.
        """
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        try:
            response = self._client.request(method, path, headers=headers, **options)
        except httpx2.TransportError as error:
            raise CommandFailed(f"No platform answers at {self.url}. Start it with `bwenge up`.") from error
        if response.is_error:
            raise CommandFailed(_refusal(response))
        try:
            return response.json() if response.content else None
        except ValueError as error:
            raise CommandFailed(f"What answers at {self.url} is no Bwenge OS.") from error


def _refusal(response: httpx2.Response) -> str:
    try:
        problem = response.json()
        return f"{problem['detail']} ({problem['code']})"
    except (ValueError, KeyError, TypeError):
        return f"The platform answered {response.status_code}."


class _Account(BaseModel):
    identifier: str
    password: str


class DemoAccounts(BaseModel):
    """The credentials that the first start left in the data directory."""

    model_config = ConfigDict(hide_input_in_errors=True)

    url: str
    persona_id: str
    owner: _Account
    learner: _Account

    @classmethod
    def read(cls, path: Path) -> "DemoAccounts":
        """Raise `CommandFailed` where the file is not there or is not what was written."""
        try:
            return cls.model_validate_json(path.read_bytes())
        except FileNotFoundError as error:
            raise CommandFailed(
                f"No account to ask as: {path} is not there. Run `bwenge up` first, or set BWENGE_URL and BWENGE_TOKEN."
            ) from error
        except (OSError, ValidationError) as error:
            raise CommandFailed(f"{path} cannot be read; remove it and start the platform again.") from error


@contextmanager
def connected(data_dir: Path, *, uploads: bool) -> Iterator[tuple[Platform, DemoAccounts | None]]:
    """A signed-in connection: as the token's owner, as the demo's owner to upload, or as its learner to ask.

    Raises:
        CommandFailed: there is neither a token nor a demo account, or the platform refuses them.
    """
    token = os.environ.get("BWENGE_TOKEN")
    url = os.environ.get("BWENGE_URL")
    if token:
        with closing(Platform(url or "http://127.0.0.1:8000", token)) as platform:
            yield platform, None
        return
    demo = DemoAccounts.read(data_dir / DEMO_FILE)
    with closing(Platform(url or demo.url, None)) as platform:
        account = demo.owner if uploads else demo.learner
        platform.sign_in(account.identifier, account.password)
        yield platform, demo
