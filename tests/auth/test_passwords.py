import asyncio
import os
import sys
import threading
from typing import Any

import pytest
from pwdlib import PasswordHash
from pwdlib.hashers.argon2 import Argon2Hasher

from bwenge.auth.passwords import Passwords, Verification


class WaitingHash:
    """Counts how many computations run at once, and holds each until the test lets it go."""

    def __init__(self) -> None:
        self.running = 0
        self.most = 0
        self.threads: set[int] = set()
        self._lock = threading.Lock()
        self.go = threading.Event()

    def hash(self, _password: str) -> str:
        if threading.current_thread() is threading.main_thread():
            return "made at construction"
        with self._lock:
            self.running += 1
            self.most = max(self.most, self.running)
            self.threads.add(threading.get_ident())
        assert self.go.wait(timeout=30)
        with self._lock:
            self.running -= 1
        return "hash"


async def _until(condition: Any) -> None:
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110  # what is waited for happens in threads
            await asyncio.sleep(0)


async def test_a_right_password_verifies_and_a_wrong_one_does_not(quick_hash: PasswordHash) -> None:
    passwords = Passwords(quick_hash)
    stored = await passwords.hash("umuneke")

    assert (await passwords.verify("umuneke", stored)).is_right
    assert not (await passwords.verify("umuneko", stored)).is_right


async def test_without_a_hash_every_password_is_wrong(quick_hash: PasswordHash) -> None:
    passwords = Passwords(quick_hash)

    assert not (await passwords.verify("the hash that stands in for accounts that do not exist", None)).is_right


async def test_composed_and_decomposed_letters_are_one_password(quick_hash: PasswordHash) -> None:
    passwords = Passwords(quick_hash)
    stored = await passwords.hash("caf\u00e9 au lait")

    assert (await passwords.verify("cafe\u0301 au lait", stored)).is_right


async def test_case_counts(quick_hash: PasswordHash) -> None:
    passwords = Passwords(quick_hash)

    assert not (await passwords.verify("UMUNEKE", await passwords.hash("umuneke"))).is_right


async def test_hashing_runs_beside_the_event_loop_and_never_more_than_allowed_at_once() -> None:
    waiting = WaitingHash()
    passwords = Passwords(waiting, concurrency=2)  # type: ignore[arg-type]  # it has the one method that is called

    tasks = [asyncio.create_task(passwords.hash("umuneke")) for _ in range(5)]
    await _until(lambda: waiting.running == 2)
    waiting.go.set()
    await asyncio.gather(*tasks)

    assert waiting.most == 2
    assert threading.get_ident() not in waiting.threads


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere threads have no priority of their own")
async def test_hashing_stands_back_behind_everything_else() -> None:
    passwords = Passwords(PasswordHash.recommended())

    niceness = await passwords._beside(lambda: os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))

    assert niceness == 10
    assert os.getpriority(os.PRIO_PROCESS, threading.get_native_id()) < 10


@pytest.mark.parametrize("parameter", ["m=65536", "t=3", "p=4"])
def test_the_recommended_hash_has_the_parameters_of_rfc_9106(parameter: str) -> None:
    assert parameter in PasswordHash.recommended().hash("umuneke")


async def test_what_is_hashed_cheaply_is_verified_and_gets_the_parameters_of_all_others() -> None:
    passwords = Passwords(PasswordHash((Argon2Hasher(time_cost=2, memory_cost=16, parallelism=1),)))
    [cheap] = await passwords.hash_generated(["7kq2-mmxw-3hdn-v8rt"])

    right = await passwords.verify("7kq2-mmxw-3hdn-v8rt", cheap)

    assert right.is_right
    assert right.replacement is not None
    assert await passwords.verify("7kq2-mmxw-3hdn-v8rt", right.replacement) == Verification(is_right=True)
    assert not (await passwords.verify("another", cheap)).is_right
