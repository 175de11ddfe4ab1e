import base64
import hashlib
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from hypothesis import given
from hypothesis import strategies as st
from jwt import PyJWKSet
from jwt.algorithms import OKPAlgorithm

from bwenge.auth.tokens import (
    AccessTokenIssuer,
    AccessTokenVerifier,
    TokenKeys,
    generate_signing_key,
    thumbprint,
)
from bwenge.kit.errors import Unauthenticated
from bwenge.kit.identity import Operator, Principal, Role
from bwenge.kit.ids import new_id

FAMILY_ID = new_id()
PRINCIPAL = Principal(user_id=new_id(), org_id=new_id(), role=Role.EXPERT, session_id=FAMILY_ID)
KEYS = TokenKeys(generate_signing_key())
VERIFIER = AccessTokenVerifier(KEYS.public_keys)


def _token(keys: TokenKeys = KEYS, *, ago: timedelta = timedelta()) -> str:
    issuer = AccessTokenIssuer(keys, clock=lambda: datetime.now(UTC) - ago)
    return issuer.issue(PRINCIPAL, family_id=FAMILY_ID)


def _claims(**changes: Any) -> dict[str, Any]:
    claims = jwt.decode(_token(), options={"verify_signature": False})
    return {name: value for name, value in {**claims, **changes}.items() if value is not None}


def _public_pem(private_pem: str) -> str:
    key = load_pem_private_key(private_pem.encode(), password=None).public_key()
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def _part(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


def test_a_token_brings_its_principal_and_session_back() -> None:
    assert VERIFIER.verify(_token()) == PRINCIPAL


def test_a_token_has_the_claims_of_the_contract() -> None:
    header, claims = jwt.get_unverified_header(_token()), _claims()

    assert (header["alg"], header["kid"]) == ("EdDSA", KEYS.kid)
    assert claims["sub"] == str(PRINCIPAL.user_id)
    assert (claims["org_id"], claims["role"], claims["type"]) == (str(PRINCIPAL.org_id), "expert", "access")
    assert claims["exp"] - claims["iat"] == 1800
    assert claims["jti"] != _claims()["jti"]


def test_an_operators_token_names_no_organisation() -> None:
    operator = Operator(new_id(), session_id=FAMILY_ID)

    token = AccessTokenIssuer(KEYS).issue(operator, family_id=FAMILY_ID)

    assert VERIFIER.verify(token) == operator
    claims = jwt.decode(token, options={"verify_signature": False})
    assert (claims["role"], claims["sub"]) == ("operator", str(operator.user_id))
    assert "org_id" not in claims


def test_a_token_lives_for_thirty_minutes_and_a_small_leeway() -> None:
    assert VERIFIER.verify(_token(ago=timedelta(minutes=30, seconds=2))) == PRINCIPAL

    with pytest.raises(Unauthenticated):
        VERIFIER.verify(_token(ago=timedelta(minutes=30, seconds=7)))


def test_a_token_from_the_future_is_refused() -> None:
    with pytest.raises(Unauthenticated):
        VERIFIER.verify(_token(ago=-timedelta(seconds=30)))


@pytest.mark.parametrize(
    "changes",
    [
        {"type": "refresh"},
        {"type": ["access"]},
        {"role": "operator"},
        {"sub": "nobody"},
        {"org_id": 5},
        {"org_id": None},
        {"role": "expert", "org_id": None},
        {"sid": None},
        {"jti": None},
        {"exp": None},
        {"exp": "soon"},
        {"iat": None},
        {"aud": "elsewhere"},
        {"iss": "elsewhere"},
        {"nbf": 99_999_999_999},
    ],
)
def test_a_signed_token_with_other_claims_is_refused(changes: dict[str, Any]) -> None:
    token = jwt.encode(_claims(**changes), KEYS._signing_key, algorithm="EdDSA", headers={"kid": KEYS.kid})

    with pytest.raises(Unauthenticated):
        VERIFIER.verify(token)


def test_another_key_under_our_key_id_is_refused() -> None:
    stranger = TokenKeys(generate_signing_key())
    token = jwt.encode(_claims(), stranger._signing_key, algorithm="EdDSA", headers={"kid": KEYS.kid})

    with pytest.raises(Unauthenticated):
        VERIFIER.verify(token)


def test_a_token_of_an_unknown_key_is_refused() -> None:
    with pytest.raises(Unauthenticated):
        VERIFIER.verify(_token(TokenKeys(generate_signing_key())))


def test_an_unsigned_token_is_refused() -> None:
    token = jwt.encode(_claims(), "", algorithm="none", headers={"kid": KEYS.kid})

    with pytest.raises(Unauthenticated):
        VERIFIER.verify(token)


def test_the_public_key_is_no_shared_secret() -> None:
    secret = KEYS.public_keys[KEYS.kid].public_bytes(Encoding.Raw, PublicFormat.Raw)
    token = jwt.encode(_claims(), secret, algorithm="HS256", headers={"kid": KEYS.kid})

    with pytest.raises(Unauthenticated):
        VERIFIER.verify(token)


def test_a_changed_claim_breaks_the_signature() -> None:
    header, _, signature = _token().split(".")

    with pytest.raises(Unauthenticated):
        VERIFIER.verify(f"{header}.{_part(_claims(role='owner'))}.{signature}")


@pytest.mark.parametrize(
    "token",
    [
        "",
        "..",
        "é.é.é",
        "a" * 100_000,
        f"{_part({'alg': 'EdDSA', 'kid': ['x']})}.e30.AA",
        f"{_part({'alg': 'EdDSA', 'kid': None})}.e30.AA",
        f"{_part({'alg': 'EdDSA'})}.e30.AA",
        f"{_part([])}.e30.AA",
        base64.urlsafe_b64encode(b"[" * 1400).decode() + ".e30.AA",
    ],
)
def test_malformed_tokens_are_refused_and_nothing_else(token: str) -> None:
    with pytest.raises(Unauthenticated):
        VERIFIER.verify(token)


@given(st.text())
def test_no_text_is_a_token(text: str) -> None:
    with pytest.raises(Unauthenticated):
        VERIFIER.verify(text)


@given(position=st.integers(min_value=0), char=st.sampled_from("ABab01-_."))
def test_a_token_with_one_character_changed_is_refused_or_the_same_bytes(position: int, char: str) -> None:
    token = _token()
    index = position % len(token)
    # The last character of a part carries unused bits, which base64 decoding does not look at.
    if token[index] == char or token[index : index + 2][1:] in {"", "."}:
        return

    with pytest.raises(Unauthenticated):
        VERIFIER.verify(token[:index] + char + token[index + 1 :])


def test_a_retired_keys_tokens_verify_after_a_rotation() -> None:
    old_pem = generate_signing_key()
    new = TokenKeys(generate_signing_key(), other_public_keys_pem=[_public_pem(old_pem)])
    verifier = AccessTokenVerifier(new.public_keys)

    assert verifier.verify(_token(TokenKeys(old_pem))) == PRINCIPAL
    assert verifier.verify(_token(new)) == PRINCIPAL
    assert jwt.get_unverified_header(_token(new))["kid"] == new.kid == next(iter(new.public_keys))


def test_another_library_function_reads_the_key_set() -> None:
    token = _token()
    key = PyJWKSet.from_dict(KEYS.jwks())[jwt.get_unverified_header(token)["kid"]]

    claims = jwt.decode(token, key, algorithms=["EdDSA"], audience="bwenge", issuer="bwenge")
    assert claims["sub"] == str(PRINCIPAL.user_id)


def test_the_key_set_holds_no_private_part() -> None:
    assert all("d" not in key for key in KEYS.jwks()["keys"])


def test_the_key_id_is_the_thumbprint_of_rfc_8037s_example() -> None:
    """RFC 8037, appendices A.1 and A.3."""
    key = OKPAlgorithm.from_jwk({"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"})
    assert isinstance(key, Ed25519PublicKey)

    assert thumbprint(key) == "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"


def test_the_thumbprint_is_stable_for_a_key() -> None:
    pem = generate_signing_key()

    assert TokenKeys(pem).kid == TokenKeys(pem).kid
    assert len(base64.urlsafe_b64decode(TokenKeys(pem).kid + "=")) == hashlib.sha256().digest_size


def test_only_ed25519_signs() -> None:
    for key in (Ed448PrivateKey.generate(), ec.generate_private_key(ec.SECP256R1())):
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
        with pytest.raises(ValueError, match="Ed25519"):
            TokenKeys(pem)
        with pytest.raises(ValueError, match="Ed25519"):
            TokenKeys(generate_signing_key(), other_public_keys_pem=[_public_pem(pem)])
