"""Settings and secrets: fixed names, safe defaults, and nothing weak in production."""

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from bwenge.apps.secrets import Secrets
from bwenge.apps.settings import Settings


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_everything_has_a_default_that_works_all_in_one() -> None:
    settings = Settings()
    assert (settings.env, settings.data_dir, settings.url) == ("development", Path("data"), "http://127.0.0.1:8000")
    assert settings.wants_demo
    assert settings.model_servers() == []


def test_names_come_from_the_environment_and_the_env_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".env").write_text("BWENGE_PORT=8100\nBWENGE_TRUSTED_HOSTS=a.example, b.example\n")
    monkeypatch.setenv("DATABASE_URL", "postgresql://u:p@db/bwenge")
    monkeypatch.setenv("BWENGE_CORS_ORIGINS", "")
    settings = Settings()
    assert settings.port == 8100
    assert settings.trusted_hosts == ["a.example", "b.example"]
    assert settings.cors_origins == []
    assert settings.database_url is not None
    assert "p@db" not in repr(settings)


def test_a_name_without_a_value_is_not_set(tmp_path: Path) -> None:
    names = ("HOST", "PORT", "DATA_DIR", "ENV", "DEMO", "SECRET_KEY", "LLM_PROVIDERS", "LLM_BASE_URL", "PUBLIC_URL")
    (tmp_path / ".env").write_text("".join(f"BWENGE_{name}=\n" for name in names) + "DATABASE_URL=\n")
    assert Settings() == Settings(_env_file=None)


def test_a_host_of_nothing_which_would_be_every_address_is_refused() -> None:
    with pytest.raises(ValidationError):
        Settings(host="")


def test_model_servers_are_asked_in_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BWENGE_LLM_BASE_URL", "http://one/v1")
    monkeypatch.setenv("BWENGE_LLM_MODEL", "m1")
    monkeypatch.setenv("BWENGE_LLM_PROVIDERS", '[{"base_url": "http://two/v1", "model": "m2", "api_key": "ibanga"}]')
    settings = Settings()
    assert [server.base_url for server in settings.model_servers()] == ["http://one/v1", "http://two/v1"]
    assert "ibanga" not in repr(settings)


@pytest.mark.parametrize(
    "environment",
    [
        {"BWENGE_SECRET_KEY": "short"},
        {"BWENGE_ENV": "production", "BWENGE_DEMO": "true"},
        {"BWENGE_PORT": "0"},
        {"BWENGE_ENV": "prod"},
        {"BWENGE_LLM_PROVIDERS": '[{"model": "without an address"}]'},
    ],
)
def test_what_is_weak_or_wrong_is_refused(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValidationError):
        Settings()


def test_production_makes_no_demo_accounts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BWENGE_ENV", "production")
    assert not Settings().wants_demo


def test_the_secret_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path / "data")
    first, second = Secrets.load(settings), Secrets.load(settings)
    assert first.signing_key_pem() == second.signing_key_pem()
    assert stat.S_IMODE((tmp_path / "data" / "secret.key").stat().st_mode) == 0o600
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["secret.key"]


def test_no_two_purposes_share_a_secret_and_none_is_shown(tmp_path: Path) -> None:
    secrets = Secrets.load(Settings(data_dir=tmp_path))
    values = [
        secrets.superuser_password,
        secrets.role_passwords.app,
        secrets.role_passwords.platform,
        secrets.source_link_key.hex(),
        secrets.readable_password("one"),
        secrets.readable_password("two"),
    ]
    assert len(set(values)) == len(values)
    assert not any(value in repr(secrets) + repr(secrets.role_passwords) for value in values)
    assert (tmp_path / "secret.key").read_text() not in repr(secrets)


def test_first_starts_at_the_same_moment_agree_on_one_secret(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path / "data")
    with ThreadPoolExecutor(8) as pool:
        passwords = set(pool.map(lambda _: Secrets.load(settings).superuser_password, range(16)))
    assert len(passwords) == 1


def test_a_given_secret_replaces_the_generated_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BWENGE_SECRET_KEY", "k" * 32)
    one = Secrets.load(Settings(data_dir=tmp_path / "one"))
    two = Secrets.load(Settings(data_dir=tmp_path / "two"))
    assert one.superuser_password == two.superuser_password
    assert not (tmp_path / "one").exists()


def test_a_mail_server_needs_a_sender() -> None:
    with pytest.raises(ValidationError, match="needs BWENGE_MAIL_FROM"):
        Settings(smtp_url="smtp://localhost")
    settings = Settings(smtp_url="smtp://localhost", mail_from="GS Kimironko <school@gs-kimironko.rw>")
    assert settings.mail_from == "GS Kimironko <school@gs-kimironko.rw>"


@pytest.mark.parametrize(
    "changes", [{"smtp_url": "mail.rw"}, {"mail_from": "nobody"}, {"mail_from": "a@b.rw\nBcc: c@d.rw"}]
)
def test_a_mail_server_or_sender_that_is_none_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Settings(**({"mail_from": "a@b.rw"} | changes))


def test_pages_of_named_origins_may_use_the_cookie_and_those_of_every_origin_may_not() -> None:
    assert Settings(cors_origins=["*", "https://a.rw"], public_url="https://b.rw").other_pages == ["https://a.rw"]
    assert Settings(port=8100).other_pages == ["http://localhost:8100"]
