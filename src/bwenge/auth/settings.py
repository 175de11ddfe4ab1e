import os
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Final

REFRESH_GRACE_SECONDS: Final = 10.0
PASSWORD_CONCURRENCY: Final = max(1, (os.cpu_count() or 1) // 2)
"""Each computation holds 64 MiB and four lanes (RFC 9106, second recommended option), enough for two processors."""
REFUSAL_SECONDS: Final = 0.4


@dataclass(frozen=True, slots=True)
class AuthSettings:
    """What an installation decides.

    Attributes:
        account_key: Hashes the names of accounts that wrong passwords are counted for; one for all processes. Without
            it the counts are this process's own.
        public_url: Where people reach the platform, without a slash at its end.
        other_pages: Addresses of pages that may use a session's cookie, beside those of `public_url`.
        refusal_seconds: No wrong password is answered sooner: longer than an unhurried machine takes over any hash.
    """

    account_key: bytes | None = field(default=None, repr=False)
    public_url: str = "http://127.0.0.1:8000"
    other_pages: Collection[str] = ()
    refresh_grace_seconds: float = REFRESH_GRACE_SECONDS
    password_concurrency: int = PASSWORD_CONCURRENCY
    refusal_seconds: float = REFUSAL_SECONDS
