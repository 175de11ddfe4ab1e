"""Secrets: one master secret, generated on first run with mode 600, from which every other one is derived."""

import base64
import hashlib
import os
import secrets as random_source
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from bwenge.apps.settings import MIN_SECRET_CHARACTERS, Settings
from bwenge.migrations.runner import RolePasswords

_FILE: Final = "secret.key"
_SALT: Final = b"bwenge-os/1"


class DamagedSecret(RuntimeError):
    """The master secret's file is too short to be what was written; without it stored passwords do not fit."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"The secret in {path} is damaged; restore the file from a backup")


@dataclass(frozen=True)
class Secrets:
    """Purposes never share a key: each is HKDF-SHA256 of the master under its own name (RFC 5869)."""

    _master: bytes = field(repr=False)

    @classmethod
    def load(cls, settings: Settings) -> "Secrets":
        """The setting's secret, else the data directory's, made where there is none.

        Raises:
            DamagedSecret
        """
        if settings.secret_key is not None:
            return cls(settings.secret_key.get_secret_value().encode())
        path = settings.data_dir / _FILE
        master = _read_or_create(path)
        if len(master) < MIN_SECRET_CHARACTERS:
            raise DamagedSecret(path)
        return cls(master)

    @staticmethod
    def exist_for(settings: Settings) -> bool:
        """Whether `load` would make none."""
        return settings.secret_key is not None or (settings.data_dir / _FILE).is_file()

    @property
    def role_passwords(self) -> RolePasswords:
        return RolePasswords(
            app=self._text("postgresql app role"),
            platform=self._text("postgresql platform role"),
            steward=self._text("postgresql steward role"),
        )

    @property
    def superuser_password(self) -> str:
        return self._text("postgresql superuser")

    @property
    def account_key(self) -> bytes:
        """Hashes the names of accounts where a count must not name them."""
        return self._derive("accounts in counts")

    @property
    def source_link_key(self) -> bytes:
        return self._derive("source links")

    @property
    def kept_answers_key(self) -> bytes:
        return self._derive("kept answers")

    @property
    def service_call_key(self) -> bytes:
        return self._derive("calls between services")

    @property
    def broker_password(self) -> str:
        """Of the Redis server that the platform starts itself."""
        return self._text("redis")

    @property
    def result_link_key(self) -> bytes:
        return self._derive("links to the results of jobs")

    def signing_key_pem(self, generation: int = 0) -> str:
        """An Ed25519 key that signs access tokens, in PKCS 8: the one after so many rotations."""
        purpose = f"access tokens {generation}" if generation else "access tokens"
        key = Ed25519PrivateKey.from_private_bytes(self._derive(purpose))
        pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return pem.decode()

    def readable_password(self, purpose: str) -> str:
        """Sixteen letters and digits in four groups, 80 bits, for an account of this installation alone."""
        letters = base64.b32encode(self._derive(f"password of {purpose}")[:10]).decode().lower()
        return "-".join(letters[start : start + 4] for start in range(0, 16, 4))

    def _text(self, purpose: str) -> str:
        return base64.urlsafe_b64encode(self._derive(purpose)).decode().rstrip("=")

    def _derive(self, purpose: str) -> bytes:
        return HKDF(algorithm=hashes.SHA256(), length=32, salt=_SALT, info=purpose.encode()).derive(self._master)


def _read_or_create(path: Path) -> bytes:
    try:
        return path.read_bytes().strip()
    except FileNotFoundError:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    master = random_source.token_urlsafe(48).encode()
    # Written beside and linked into place, so that a crash leaves no half secret and a twin's is not replaced.
    draft = path.with_name(f"{_FILE}.{hashlib.sha256(master).hexdigest()[:8]}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(master)
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(draft, path)
        except FileExistsError:
            return path.read_bytes().strip()
    finally:
        draft.unlink()
    return master
