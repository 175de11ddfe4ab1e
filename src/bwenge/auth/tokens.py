"""Access tokens: JSON Web Tokens signed with Ed25519, checked by every service without asking this one."""

import base64
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)
from jwt.algorithms import OKPAlgorithm

from bwenge.kit.errors import Unauthenticated
from bwenge.kit.identity import OPERATOR, Caller, Operator, Principal, Role
from bwenge.kit.ids import new_id

Clock = Callable[[], datetime]

ALGORITHM: Final = "EdDSA"
ISSUER: Final = "bwenge"
ACCESS_TOKEN_LIFETIME: Final = timedelta(minutes=30)
LEEWAY: Final = timedelta(seconds=5)
"""By how much the clocks of two services may differ."""

_TYPE: Final = "access"
_CLAIMS: Final = ("iss", "aud", "exp", "iat", "sub", "role", "type", "jti", "sid")
_MAX_TOKEN_LENGTH: Final = 2048


def utc_now() -> datetime:
    return datetime.now(UTC)


def generate_signing_key() -> str:
    """A new Ed25519 private key as PKCS #8 in PEM."""
    key = Ed25519PrivateKey.generate()
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def public_key_pem(signing_key_pem: str) -> str:
    """Of a private key in PEM, as SubjectPublicKeyInfo in PEM."""
    key = load_pem_private_key(signing_key_pem.encode(), password=None).public_key()
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


class TokenKeys:
    """The key that signs, and the public keys of all tokens that may still be on their way.

    Args:
        signing_key_pem: An Ed25519 private key in PEM.
        other_public_keys_pem: Ed25519 public keys in PEM: those that signed before, and the one that will next.

    Raises:
        ValueError: A key is not Ed25519.
    """

    def __init__(self, signing_key_pem: str, *, other_public_keys_pem: Sequence[str] = ()) -> None:
        self._public_keys: dict[str, Ed25519PublicKey] = {}
        self.replace(signing_key_pem, other_public_keys_pem=other_public_keys_pem)

    @property
    def public_keys(self) -> Mapping[str, Ed25519PublicKey]:
        """By key id, the signing one first; a view that `replace` changes."""
        return self._public_keys

    def replace(self, signing_key_pem: str, *, other_public_keys_pem: Sequence[str] = ()) -> None:
        """Sign and verify with these from now on."""
        signing_key = load_pem_private_key(signing_key_pem.encode(), password=None)
        if not isinstance(signing_key, Ed25519PrivateKey):
            raise ValueError("access tokens are signed with an Ed25519 key")  # noqa: TRY004  # the value, not its type
        public_keys = [signing_key.public_key(), *map(_public_key, other_public_keys_pem)]
        self._signing_key = signing_key
        self.kid = thumbprint(public_keys[0])
        self._public_keys.clear()
        self._public_keys.update({thumbprint(key): key for key in public_keys})

    def sign(self, claims: Mapping[str, Any]) -> str:
        return jwt.encode(dict(claims), self._signing_key, algorithm=ALGORITHM, headers={"kid": self.kid})

    def jwks(self) -> dict[str, list[dict[str, str]]]:
        """The public keys as a JSON Web Key Set (RFC 7517, RFC 8037), the signing one first."""
        return {
            "keys": [
                {**OKPAlgorithm.to_jwk(key, as_dict=True), "kid": kid, "use": "sig", "alg": ALGORITHM}
                for kid, key in self.public_keys.items()
            ]
        }


def thumbprint(key: Ed25519PublicKey) -> str:
    """RFC 7638: SHA-256 over the required members of the key's JWK in lexical order, base64url without padding."""
    required = json.dumps(OKPAlgorithm.to_jwk(key, as_dict=True), sort_keys=True, separators=(",", ":"))
    return base64.urlsafe_b64encode(hashlib.sha256(required.encode()).digest()).decode().rstrip("=")


def _public_key(pem: str) -> Ed25519PublicKey:
    key = load_pem_public_key(pem.encode())
    if not isinstance(key, Ed25519PublicKey):
        raise ValueError("access tokens are verified with Ed25519 keys")  # noqa: TRY004  # the value, not its type
    return key


class AccessTokenIssuer:
    def __init__(self, keys: TokenKeys, *, clock: Clock = utc_now) -> None:
        self._keys = keys
        self._clock = clock

    def issue(self, caller: Caller, *, family_id: UUID) -> str:
        """A token of `ACCESS_TOKEN_LIFETIME`; `sid` names the family of refresh tokens that it came with.

        An operator's has no `org_id`.
        """
        now = self._clock()
        return self._keys.sign(
            {
                "iss": ISSUER,
                "aud": ISSUER,
                "iat": now,
                "exp": now + ACCESS_TOKEN_LIFETIME,
                "jti": str(new_id()),
                "type": _TYPE,
                "sub": str(caller.user_id),
                **_standing(caller),
                "sid": str(family_id),
            }
        )


def _standing(caller: Caller) -> dict[str, str]:
    if isinstance(caller, Operator):
        return {"role": OPERATOR}
    return {"org_id": str(caller.org_id), "role": caller.role.value}


class AccessTokenVerifier:
    """Implements `bwenge.kit.identity.TokenVerifier`.

    Args:
        public_keys: By key id; a token names the one that it was signed with.
    """

    def __init__(self, public_keys: Mapping[str, Ed25519PublicKey]) -> None:
        self._public_keys = public_keys

    def verify(self, token: str) -> Caller:
        """For whom a valid access token speaks. Raises `Unauthenticated` for every other string."""
        if len(token) > _MAX_TOKEN_LENGTH:
            raise Unauthenticated
        try:
            return self._verify(token)
        # ValueError and LookupError: an unknown key id, role or malformed id; TypeError: a claim of another JSON type;
        # RecursionError: a header of nested arrays, which is parsed before its signature can be checked.
        except (jwt.PyJWTError, ValueError, LookupError, TypeError, RecursionError) as error:
            raise Unauthenticated from error

    def _verify(self, token: str) -> Caller:
        key = self._public_keys[jwt.get_unverified_header(token)["kid"]]
        claims = jwt.decode(
            token,
            key,
            algorithms=[ALGORITHM],
            issuer=ISSUER,
            audience=ISSUER,
            leeway=LEEWAY,
            options={"require": list(_CLAIMS)},
        )
        if claims["type"] != _TYPE:
            raise Unauthenticated
        return _caller(claims)


def _caller(claims: Mapping[str, Any]) -> Caller:
    """An operator is in no organisation, and a member is in one: a claim too many is as wrong as one too few."""
    user_id, session_id = _uuid(claims["sub"]), _uuid(claims["sid"])
    if claims["role"] != OPERATOR:
        org_id, role = _uuid(claims["org_id"]), Role(claims["role"])
        return Principal(user_id=user_id, org_id=org_id, role=role, session_id=session_id)
    if claims.get("org_id") is not None:
        raise Unauthenticated
    return Operator(user_id, session_id=session_id)


def _uuid(claim: object) -> UUID:
    """Raises ValueError for any other JSON value; UUID itself expects text."""
    return UUID(str(claim))
