"""Settings by fixed names: environment or `.env`, prefix BWENGE_, every one with a default that works all-in-one."""

from pathlib import Path
from typing import Annotated, Any, Final, Literal
from urllib.parse import urlsplit

from limits import parse
from pydantic import AliasChoices, BaseModel, Field, SecretStr, field_validator, model_validator
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from bwenge.apps.addresses import ANY, is_everybody, normalize_address, normalize_origin, require_proxy
from bwenge.kit.mail import MailServer, mail_address

MIN_SECRET_CHARACTERS: Final = 32
FLOOD_RATE: Final = "6000/minute"
"""Of one address, behind which a school may be: fifty learners at two requests a second."""
RATE_PREFIX: Final = "BWENGE_RATE_LIMIT_"


class ModelServer(BaseModel):
    """One OpenAI-compatible server of BWENGE_LLM_PROVIDERS."""

    base_url: str
    api_key: SecretStr = SecretStr("")
    model: str
    name: str | None = None


class _RateOverrides(PydanticBaseSettingsSource):
    """Collects the settings whose names end in the name of a rate limit; later sources win."""

    def __init__(self, settings_cls: type[BaseSettings], *sources: PydanticBaseSettingsSource) -> None:
        super().__init__(settings_cls)
        self._sources = [source for source in sources if isinstance(source, EnvSettingsSource)]

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:  # noqa: ARG002  # one field only
        return None, field_name, False

    def __call__(self) -> dict[str, Any]:
        found = {
            name.upper().removeprefix(RATE_PREFIX): rate
            for source in self._sources
            for name, rate in source.env_vars.items()
            if name.upper().startswith(RATE_PREFIX) and rate
        }
        return {"rate_limit_overrides": found}


class Settings(BaseSettings):
    model_config = SettingsConfigDict(
        env_prefix="BWENGE_",
        env_file=".env",
        # A host of "" would listen on every address: a name without a value is one that is not set.
        env_ignore_empty=True,
        extra="ignore",
        hide_input_in_errors=True,
        validate_default=True,
    )

    env: Literal["development", "staging", "production"] = "development"
    data_dir: Path = Path("data")
    host: str = Field(default="127.0.0.1", min_length=1)
    port: int = Field(default=8000, ge=1, le=65535)
    demo: bool | None = None
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    secret_key: SecretStr | None = Field(
        default=None, description="Replaces the generated master secret; the same for every process of a deployment"
    )

    database_url: SecretStr | None = Field(
        default=None, validation_alias=AliasChoices("DATABASE_URL", "BWENGE_DATABASE_URL")
    )

    llm_base_url: str | None = None
    llm_api_key: SecretStr = SecretStr("")
    llm_model: str = "gpt-4o-mini"
    llm_connect_seconds: float = Field(default=5.0, gt=0, le=60)
    llm_first_token_seconds: float = Field(default=20.0, gt=0, le=300)
    llm_between_tokens_seconds: float = Field(default=15.0, gt=0, le=300)
    llm_whole_seconds: float = Field(default=120.0, gt=0, le=1_800)
    llm_providers: Annotated[list[ModelServer], Field(default_factory=list)]

    smtp_url: SecretStr | None = Field(
        default=None, description="smtp://user:password@host:587?starttls=1 or smtps://; unset, nothing is mailed"
    )
    mail_from: str | None = None

    public_url: str | None = None
    trusted_hosts: Annotated[list[str], NoDecode, Field(default_factory=list)]
    cors_origins: Annotated[list[str], NoDecode, Field(default_factory=list)]

    trusted_proxies: Annotated[list[str], NoDecode, Field(default_factory=list)]
    rate_limits: Annotated[bool, Field(description="Off only outside production")] = True
    rate_limit_overrides: Annotated[dict[str, str], NoDecode, Field(default_factory=dict)]
    """Rates by name, from BWENGE_RATE_LIMIT_<NAME>."""
    blob_url: str | None = Field(
        default=None,
        pattern=r"^(file:///|s3://|gs://|az://).",
        description="Where uploaded files are kept, file:///folder or s3://bucket/prefix; unset, in the data directory",
    )
    service_url: str = Field(
        default="http://127.0.0.1:{port}",
        description="Where the processes of the split topology find each other: http://bwenge-{service}:{port}",
    )
    redis_url: SecretStr | None = Field(default=None, validation_alias=AliasChoices("REDIS_URL", "BWENGE_REDIS_URL"))

    refresh_grace_seconds: int = Field(default=10, ge=0, le=60)

    @classmethod
    def settings_customise_sources(  # noqa: PLR0917  # the library's signature
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        named = (init_settings, env_settings, dotenv_settings, file_secret_settings)
        return (*named, _RateOverrides(settings_cls, dotenv_settings, env_settings))

    @model_validator(mode="before")
    @classmethod
    def _split_lists(cls, values: object) -> object:
        """Lists of names are written with commas; an empty value is an unset one."""
        if isinstance(values, dict):
            for name in ("trusted_hosts", "cors_origins", "trusted_proxies"):
                if isinstance(values.get(name), str):
                    values[name] = [part.strip() for part in values[name].split(",") if part.strip()]
        return values

    @field_validator("rate_limit_overrides")
    @classmethod
    def _refuse_malformed_rates(cls, value: dict[str, str]) -> dict[str, str]:
        for name, rate in value.items():
            try:
                parse(rate)
            except ValueError as error:
                raise ValueError(f"{RATE_PREFIX}{name} needs the form 10/minute") from error
        return value

    @field_validator("database_url")
    @classmethod
    def _refuse_other_databases(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not _names_postgresql(value.get_secret_value()):
            raise ValueError("needs the form postgresql://user:password@host:port/database")
        return value

    @field_validator("smtp_url")
    @classmethod
    def _refuse_other_mail_servers(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            MailServer.from_url(value.get_secret_value())
        return value

    @field_validator("public_url")
    @classmethod
    def _refuse_other_addresses(cls, value: str | None) -> str | None:
        return None if value is None else normalize_address(value)

    @field_validator("service_url")
    @classmethod
    def _refuse_what_leads_nowhere(cls, value: str) -> str:
        try:
            address = urlsplit(normalize_address(value.format(service="service", port=1)))
            is_whole = address.scheme == "http" and address.port is not None
        except (ValueError, LookupError, AttributeError):
            is_whole = False
        if not is_whole:
            raise ValueError("needs the form http://bwenge-{service}:{port}")
        return value

    @field_validator("cors_origins")
    @classmethod
    def _refuse_what_is_no_origin(cls, value: list[str]) -> list[str]:
        return [normalize_origin(origin) for origin in value]

    @field_validator("trusted_proxies")
    @classmethod
    def _refuse_what_is_no_proxy(cls, value: list[str]) -> list[str]:
        for proxy in value:
            require_proxy(proxy)
        return value

    @field_validator("mail_from")
    @classmethod
    def _refuse_malformed_senders(cls, value: str | None) -> str | None:
        return None if value is None else str(mail_address(value))

    @model_validator(mode="after")
    def _require_a_sender(self) -> "Settings":
        if self.smtp_url is not None and self.mail_from is None:
            raise ValueError("BWENGE_SMTP_URL needs BWENGE_MAIL_FROM")
        return self

    @model_validator(mode="after")
    def _refuse_weak_production(self) -> "Settings":
        if self.secret_key is not None and len(self.secret_key.get_secret_value()) < MIN_SECRET_CHARACTERS:
            raise ValueError(f"BWENGE_SECRET_KEY needs at least {MIN_SECRET_CHARACTERS} characters")
        if self.env == "production":
            self._refuse_open_production()
        return self

    def _refuse_open_production(self) -> None:
        if self.demo:
            raise ValueError("BWENGE_DEMO makes accounts with printed passwords; production refuses it")
        if not self.rate_limits:
            raise ValueError("BWENGE_RATE_LIMITS is off; production refuses it")
        if self.public_url is None or not self.public_url.startswith("https:"):
            raise ValueError("BWENGE_PUBLIC_URL needs the https address that people use; production requires it")
        if any(map(is_everybody, self.trusted_proxies)):
            raise ValueError("BWENGE_TRUSTED_PROXIES believes everybody; production refuses it")

    def address_of(self, service: str, *, port: int) -> str:
        """Where other processes of the platform reach a service."""
        return self.service_url.format(service=service, port=port).rstrip("/")

    @property
    def flood_per_minute(self) -> int:
        """What one network may ask altogether, from BWENGE_RATE_LIMIT_FLOOD."""
        rate = parse(self.rate_limit_overrides.get("FLOOD", FLOOD_RATE))
        return max(1, rate.amount * 60 // rate.get_expiry())

    @property
    def wants_demo(self) -> bool:
        return self.env == "development" if self.demo is None else self.demo

    @property
    def url(self) -> str:
        """Where people reach the platform."""
        if self.public_url:
            return self.public_url.rstrip("/")
        return f"http://{reachable_host(self.host)}:{self.port}"

    @property
    def other_pages(self) -> list[str]:
        """Addresses beside `url` whose pages may use a session's cookie."""
        # A developer's browser knows this machine by either name.
        local = [f"http://localhost:{self.port}"] if self.public_url is None else []
        return [*local, *(origin for origin in self.cors_origins if origin != ANY)]

    def model_servers(self) -> list[ModelServer]:
        """The primary server first, then the fallbacks in their order; none means extractive answers."""
        primary = []
        if self.llm_base_url:
            primary = [
                ModelServer(base_url=self.llm_base_url, api_key=self.llm_api_key, model=self.llm_model, name="primary")
            ]
        return [*primary, *self.llm_providers]


def reachable_host(host: str) -> str:
    """Under which this machine reaches what listens there, as it stands in a URL."""
    known = "127.0.0.1" if host in {"0.0.0.0", "::"} else host  # noqa: S104  # not a bind: an address to show
    return f"[{known}]" if ":" in known else known


def _names_postgresql(address: str) -> bool:
    try:
        return make_url(address).drivername.partition("+")[0] in {"postgresql", "postgres"}
    except ArgumentError:
        return False
