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
    """A signed-in connection to a platform's HTTP API.

    Raises:
        CommandFailed: the address is none.
    """

    def __init__(self, url: str, token: str | None) -> None:
        self.url = url.rstrip("/")
        self.token = token
        try:
            self._client = httpx2.Client(base_url=self.url, timeout=httpx2.Timeout(60, connect=5), trust_env=False)
        except httpx2.InvalidURL as error:
            raise CommandFailed(f"{url} is no address of a platform.") from error

    def close(self) -> None:
        self._client.close()

    def sign_in(self, identifier: str, password: str) -> None:
        credentials = {"identifier": identifier, "password": password}
        self.token = str(self.call("POST", "/auth/login", "access_token", json=credentials)["access_token"])

    def call(self, method: str, path: str, *fields: str, **options: Any) -> dict[str, Any]:
        """The answer's JSON object, which has these fields.

        Raises:
            CommandFailed: with the platform's own words, or that there is none.
        """
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        try:
            response = self._client.request(method, path, headers=headers, **options)
        except httpx2.TransportError as error:
            raise CommandFailed(f"No platform answers at {self.url}. Start it with `bwenge up`.") from error
        if response.is_error:
            raise CommandFailed(_refusal(response))
        answer = _json(response) if response.content or fields else {}
        if not response.is_success or not isinstance(answer, dict) or not answer.keys() >= set(fields):
            raise CommandFailed(f"What answers at {self.url} is no Bwenge OS.")
        return answer


def _json(response: httpx2.Response) -> Any:
    try:
        return response.json()
    except ValueError:
        return None


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
                f"No account to ask as: {path} is not there. Run `bwenge up` with demo data, or set BWENGE_URL and "
                "BWENGE_TOKEN."
            ) from error
        except (OSError, ValidationError) as error:
            raise CommandFailed(f"{path} cannot be read; remove it and start the platform again.") from error


@contextmanager
def connected(data_dir: Path, *, uploads: bool) -> Iterator[tuple[Platform, DemoAccounts | None]]:
    """A signed-in connection: as the token's owner, as the demo's owner to upload, or as its learner to ask.

    Raises:
        CommandFailed: there is neither a token nor a demo account, or the platform refuses them.
    """
    token = os.environ.get("BWENGE_TOKEN", "").strip()
    url = os.environ.get("BWENGE_URL")
    if not (token.isascii() and token.isprintable()):
        raise CommandFailed("BWENGE_TOKEN holds characters that no access token has.")
    if token:
        with closing(Platform(url or "http://127.0.0.1:8000", token)) as platform:
            yield platform, None
        return
    demo = DemoAccounts.read(data_dir / DEMO_FILE)
    with closing(Platform(url or demo.url, None)) as platform:
        account = demo.owner if uploads else demo.learner
        platform.sign_in(account.identifier, account.password)
        yield platform, demo
