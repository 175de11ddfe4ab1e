"""Hashes by bcrypt, as other systems made them, are taken over at login."""

import asyncio
from typing import Any

import bcrypt
import pytest
from httpx2 import AsyncClient
from pwdlib import PasswordHash
from sqlalchemy import text

from bwenge.auth.errors import InvalidCredentials
from bwenge.auth.passwords import CuttingBcryptHasher, Passwords
from bwenge.auth.wiring import AuthFeature, build
from tests.support.accounts import EMAIL, PASSWORD
from tests.support.databases import SavepointDatabase

LONG = "ikinyugunyugu " * 8


def _bcrypt(password: str, *, rounds: int = 4) -> str:
    return bcrypt.hashpw(password.encode()[:72], bcrypt.gensalt(rounds)).decode()


async def _store(database: SavepointDatabase, password_hash: str) -> None:
    async with database.superuser() as connection:
        await connection.execute(text("UPDATE users SET password_hash = :hash"), {"hash": password_hash})


async def _stored(database: SavepointDatabase) -> str:
    async with database.superuser() as connection:
        return str((await connection.execute(text("SELECT password_hash FROM users"))).scalar_one())


async def _log_in(client: AsyncClient, password: str) -> int:
    return (await client.post("/auth/login", json={"email": EMAIL, "password": password})).status_code


@pytest.mark.usefixtures("login")
@pytest.mark.parametrize("rounds", [4, 12])
async def test_a_login_replaces_bcrypt_by_argon2id(
    client: AsyncClient, database: SavepointDatabase, rounds: int
) -> None:
    await _store(database, _bcrypt("umusozi muremure", rounds=rounds))

    assert await _log_in(client, "umusozi mugufi") == 401
    assert (await _stored(database)).startswith("$2b$")
    assert await _log_in(client, "umusozi muremure") == 200
    assert (await _stored(database)).startswith("$argon2id$")
    assert await _log_in(client, "umusozi muremure") == 200


@pytest.mark.usefixtures("login")
@pytest.mark.parametrize("prefix", ["$2a$", "$2y$"])
async def test_the_prefixes_of_other_libraries_are_known(
    client: AsyncClient, database: SavepointDatabase, prefix: str
) -> None:
    await _store(database, _bcrypt("umusozi muremure").replace("$2b$", prefix))

    assert await _log_in(client, "umusozi muremure") == 200


@pytest.mark.usefixtures("login")
async def test_a_password_of_more_bytes_than_bcrypt_reads_logs_in(
    client: AsyncClient, database: SavepointDatabase
) -> None:
    await _store(database, _bcrypt(LONG))

    assert await _log_in(client, LONG) == 200
    # From now on all of it counts.
    assert await _log_in(client, LONG[:72]) == 401


@pytest.mark.usefixtures("login")
@pytest.mark.parametrize("stored", ["", "!", "$1$md5crypt$qJqAcQqnJ6dLpPvOHQYzQ1", "plain text"])
async def test_a_hash_of_an_unknown_kind_is_no_password(
    client: AsyncClient, database: SavepointDatabase, stored: str
) -> None:
    await _store(database, stored)

    assert await _log_in(client, PASSWORD) == 401


async def test_a_wrong_password_is_not_refused_before_its_time(
    database: SavepointDatabase, signing_key_pem: str, quick_hash: PasswordHash, login: dict[str, Any]
) -> None:
    """An account that is unknown, of Argon2id or of bcrypt takes the same time to refuse."""
    del login
    feature = build(database, signing_key_pem=signing_key_pem, password_hash=quick_hash)
    for identifier in (EMAIL, "nobody@school.rw"):
        assert await _seconds_to_refuse(feature, identifier) >= 0.39


async def _seconds_to_refuse(feature: AuthFeature, identifier: str) -> float:
    loop = asyncio.get_running_loop()
    started = loop.time()
    with pytest.raises(InvalidCredentials):
        await feature.service.log_in(identifier, "not the password")
    return loop.time() - started


async def test_a_new_hash_is_never_bcrypt(quick_hash: PasswordHash) -> None:
    passwords = Passwords(PasswordHash((*quick_hash.hashers, CuttingBcryptHasher())))

    assert (await passwords.hash("umuneke")).startswith("$argon2id$")
