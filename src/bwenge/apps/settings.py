"""Settings by fixed names: environment or `.env`, prefix BWENGE_, every one with a default that works all-in-one."""

from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import AliasChoices, BaseModel, Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

MIN_SECRET_CHARACTERS: Final = 32


class ModelServer(BaseModel):
    """One OpenAI-compatible server of BWENGE_LLM_PROVIDERS."""

    base_url: str
    api_key: SecretStr = SecretStr("")
    model: str
    name: str | None = None


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

    public_url: str | None = None
    trusted_hosts: Annotated[list[str], NoDecode, Field(default_factory=list)]
    cors_origins: Annotated[list[str], NoDecode, Field(default_factory=list)]

    refresh_grace_seconds: int = Field(default=10, ge=0, le=60)

    @model_validator(mode="before")
    @classmethod
    def _split_lists(cls, values: object) -> object:
        """Lists of names are written with commas; an empty value is an unset one."""
        if isinstance(values, dict):
            for name in ("trusted_hosts", "cors_origins"):
                if isinstance(values.get(name), str):
                    values[name] = [part.strip() for part in values[name].split(",") if part.strip()]
        return values

    @field_validator("database_url")
    @classmethod
    def _refuse_other_databases(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not _names_postgresql(value.get_secret_value()):
            raise ValueError("needs the form postgresql://user:password@host:port/database")
        return value

    @model_validator(mode="after")
    def _refuse_weak_production(self) -> "Settings":
        if self.secret_key is not None and len(self.secret_key.get_secret_value()) < MIN_SECRET_CHARACTERS:
            raise ValueError(f"BWENGE_SECRET_KEY needs at least {MIN_SECRET_CHARACTERS} characters")
        if self.env == "production" and self.demo:
            raise ValueError("BWENGE_DEMO makes accounts with printed passwords; production refuses it")
        return self

    @property
    def wants_demo(self) -> bool:
        return self.env == "development" if self.demo is None else self.demo

    @property
    def url(self) -> str:
        """Where people reach the platform."""
        if self.public_url:
            return self.public_url.rstrip("/")
        host = "127.0.0.1" if self.host in {"0.0.0.0", "::"} else self.host  # noqa: S104  # not a bind: an address to show
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}"

    def model_servers(self) -> list[ModelServer]:
        """The primary server first, then the fallbacks in their order; none means extractive answers."""
        primary = []
        if self.llm_base_url:
            primary = [
                ModelServer(base_url=self.llm_base_url, api_key=self.llm_api_key, model=self.llm_model, name="primary")
            ]
        return [*primary, *self.llm_providers]


def _names_postgresql(address: str) -> bool:
    try:
        return make_url(address).drivername.partition("+")[0] in {"postgresql", "postgres"}
    except ArgumentError:
        return False
