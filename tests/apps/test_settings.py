"""Settings and secrets: fixed names, safe defaults, and nothing weak in production."""

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import pytest
from pydantic import ValidationError

from bwenge.apps.secrets import Secrets
from bwenge.apps.settings import Settings

PRODUCTION: Final = {"BWENGE_ENV": "production", "BWENGE_PUBLIC_URL": "https://school.example"}


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
        PRODUCTION | {"BWENGE_DEMO": "true"},
        PRODUCTION | {"BWENGE_RATE_LIMITS": "false"},
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
    for name, value in PRODUCTION.items():
        monkeypatch.setenv(name, value)
    assert not Settings().wants_demo


@pytest.mark.parametrize("public_url", [None, "http://school.example", "HTTP://school.example"])
def test_production_is_reached_by_https(public_url: str | None) -> None:
    with pytest.raises(ValidationError, match="BWENGE_PUBLIC_URL needs the https address"):
        Settings(env="production", public_url=public_url)
    assert Settings(env="staging", public_url=public_url).public_url == (public_url and public_url.lower())


def test_the_scheme_of_the_public_address_may_be_written_in_capitals() -> None:
    assert Settings(env="production", public_url="HTTPS://School.example/").url == "https://School.example"


@pytest.mark.parametrize(
    "public_url", ["school.example", "ftp://a.rw", "https://", "https://a.rw:x", "https://a.rw?b=c", "https://u:p@a.rw"]
)
def test_a_public_address_that_nobody_can_open_is_refused(public_url: str) -> None:
    with pytest.raises(ValidationError, match=r"needs the form https://school\.example"):
        Settings(public_url=public_url)


@pytest.mark.parametrize("proxy", ["proxy.school.example", "10.0.0.7/24", "10.0.0", "10.0.0.0/33", "10.0.0.1:80"])
def test_a_proxy_that_is_no_address_is_refused(proxy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BWENGE_TRUSTED_PROXIES", f"127.0.0.1, {proxy}")
    with pytest.raises(ValidationError, match="an IP address or a network"):
        Settings()


@pytest.mark.parametrize("proxy", ["*", "0.0.0.0/0", "::/0"])
def test_production_does_not_believe_everybody_who_says_to_be_a_proxy(proxy: str) -> None:
    with pytest.raises(ValidationError, match="BWENGE_TRUSTED_PROXIES believes everybody"):
        Settings(env="production", public_url="https://a.rw", trusted_proxies=[proxy])
    assert Settings(trusted_proxies=[proxy]).trusted_proxies == [proxy]


def test_addresses_and_networks_of_proxies_are_taken() -> None:
    proxies = ["127.0.0.1", "::1", "10.0.0.0/24", "fd00::/8"]
    assert Settings(env="production", public_url="https://a.rw", trusted_proxies=proxies).trusted_proxies == proxies


@pytest.mark.parametrize(
    "origin",
    ["https://a.rw/", "https://a.rw/app", "a.rw", "null", "https://a.rw:443", "http://a.rw:80", "https://*.a.rw"],
)
def test_an_origin_that_no_browser_would_send_is_refused(origin: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BWENGE_CORS_ORIGINS", f"https://b.rw,{origin}")
    with pytest.raises(ValidationError, match=r"each needs the form https://school\.example or"):
        Settings()


def test_origins_are_taken_as_browsers_write_them() -> None:
    origins = ["https://School.example", "http://localhost:5173", "https://a.rw:8443", "http://[::1]:8443", "*"]
    assert Settings(cors_origins=origins).cors_origins == [origin.lower() for origin in origins]


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
