"""The life of refresh tokens, against a model of it: whatever happens in whatever order, both agree."""

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, TypeVar
from uuid import UUID

import jwt
import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, multiple, rule, run_state_machine_as_test
from sqlalchemy import text

from bwenge.auth.errors import InvalidRefreshToken, TokenReused
from bwenge.auth.refresh_tokens import REFRESH_TOKEN_LIFETIME
from bwenge.auth.service import Login
from bwenge.auth.wiring import AuthFeature
from bwenge.kit.db import PLATFORM, Database
from bwenge.kit.identity import Principal, Role
from bwenge.kit.ids import new_id
from tests.auth.conftest import StandingClock, TurnedClock

T = TypeVar("T")

GRACE = timedelta(seconds=10)
PASSWORDS = ("ikinyugunyugu cy'umuhondo", "inyoni zo mu gishanga")


@dataclass
class Family:
    family_id: UUID
    is_revoked: bool = False


@dataclass
class Token:
    """As the model knows it; `is_kept` says whether the database still has its row."""

    secret: str = field(repr=False)
    family: Family
    expires_at: datetime
    used_at: datetime | None = None
    is_kept: bool = True


class RefreshLife(RuleBasedStateMachine):
    """One member's sessions, on the product's own pools, so that what happens at once really does."""

    tokens: Bundle[Token] = Bundle("tokens")

    def __init__(
        self, feature: AuthFeature, database: Database, clock: TurnedClock, loop: asyncio.AbstractEventLoop
    ) -> None:
        super().__init__()
        self.feature = feature
        self.database = database
        self.clock = clock
        self.loop = loop
        self.known: list[Token] = []
        self.is_active = True
        self.password = PASSWORDS[0]
        self.email = f"{new_id().hex}@school.rw"

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(60)

    @initialize(target=tokens)
    def register(self) -> Token:
        login = self.do(
            self.feature.service.register(org_name="School", name="Owner", email=self.email, password=self.password)
        )
        self.owner = Principal(user_id=login.user.id, org_id=login.user.organization_id, role=Role.OWNER)
        return self.issued(login)

    @rule(target=tokens)
    def log_in(self) -> Any:
        if not self.is_active:
            return multiple()
        return self.issued(self.do(self.feature.service.log_in(self.email, self.password)))

    @rule(target=tokens, token=tokens)
    def refresh(self, token: Token) -> Any:
        return self.agree(token, self.present(token))

    @rule(target=tokens, token=tokens, times=st.integers(2, 3))
    def refresh_at_once(self, token: Token, times: int) -> Any:
        return self.agree(token, self.present(token, times=times))

    @rule(target=tokens, seconds=st.sampled_from([9, 10, 11]))
    def use_a_new_token_twice(self, seconds: int) -> Any:
        """Around the end of its grace."""
        if not self.is_active:
            return multiple()
        token = self.issued(self.do(self.feature.service.log_in(self.email, self.password)))
        first = self.agree(token, self.present(token))
        self.clock.turn(seconds=seconds)
        second = self.agree(token, self.present(token))
        return multiple(token, *first.values, *second.values)

    @rule(token=tokens)
    def log_out(self, token: Token) -> None:
        self.do(self.feature.service.log_out(access_token=None, refresh_token=token.secret))
        token.family.is_revoked |= token.is_kept

    @rule(token=tokens, other=tokens)
    def refresh_beside_a_logout(self, token: Token, other: Token) -> None:
        """Whichever is first, what was issued to the family does not outlive both."""
        if token.family is not other.family or not other.is_kept:
            return
        logout = self.feature.service.log_out(access_token=None, refresh_token=other.secret)
        answer, _ = self.do(_together(self.feature.service.refresh(token.secret), logout))
        if isinstance(answer, Login):
            self.use(token)
            self.issued(answer)
        token.family.is_revoked = True

    @rule(token=tokens)
    def change_the_password(self, token: Token) -> None:
        """In the token's session; every other one ends. A session that was ended changes nothing."""
        caller = replace(self.owner, session_id=token.family.family_id)
        if not self.is_active or (token.family.is_revoked and token.is_kept):
            return
        new = PASSWORDS[1 - PASSWORDS.index(self.password)]
        self.do(self.feature.recovery.change(caller, self.password, new))
        self.password = new
        for known in self.known:
            known.family.is_revoked |= known.family is not token.family

    @rule(is_active=st.sampled_from([True, True, False]))
    def set_active(self, is_active: bool) -> None:  # noqa: FBT001  # hypothesis passes it by name
        self.do(self.write(is_active=is_active))
        self.is_active = is_active

    @rule(seconds=st.sampled_from([1, 9, 10, 11, 3600, 3 * 86400, 7 * 86400]))
    def wait(self, seconds: int) -> None:
        self.clock.turn(seconds=seconds)

    def teardown(self) -> None:
        if not self.known:
            return
        living = self.do(self.living())
        assert living == {
            known.family.family_id for known in self.known if known.is_kept and not known.family.is_revoked
        }

    def present(self, token: Token, *, times: int = 1) -> list[Login | BaseException]:
        return self.do(_together(*(self.feature.service.refresh(token.secret) for _ in range(times))))

    def agree(self, token: Token, answers: list[Login | BaseException]) -> Any:
        """The answers are what the model says, all of them, and what they issued is new."""
        refusal = self.refusal(token)
        if refusal is not None:
            assert {type(answer) for answer in answers} == {refusal}
            if refusal is TokenReused:
                token.family.is_revoked = True
            return multiple()
        logins = [answer for answer in answers if isinstance(answer, Login)]
        assert len(logins) == len(answers), answers
        self.use(token)
        made = [self.issued(login) for login in logins]
        assert {one.family.family_id for one in made} == {token.family.family_id}
        assert len({known.secret for known in self.known}) == len(self.known)
        return multiple(*made)

    def refusal(self, token: Token) -> type[Exception] | None:
        now = self.clock()
        if not token.is_kept or token.expires_at <= now:
            return InvalidRefreshToken
        if token.used_at is not None and now - token.used_at > GRACE:
            return TokenReused
        return InvalidRefreshToken if token.family.is_revoked or not self.is_active else None

    def use(self, token: Token) -> None:
        token.used_at = token.used_at or self.clock()

    def issued(self, login: Login) -> Token:
        """A new token of a known family or of a new one; what has expired is cleared away."""
        now = self.clock()
        for known in self.known:
            known.is_kept &= known.expires_at >= now
        # Not verified: the library's own clock knows nothing of the one that the test turns.
        claims = jwt.decode(login.access_token, options={"verify_signature": False})
        family_id = UUID(claims["sid"])
        families = {known.family.family_id: known.family for known in self.known}
        family = families.get(family_id) or Family(family_id)
        token = Token(login.refresh_token, family, now + REFRESH_TOKEN_LIFETIME)
        self.known.append(token)
        return token

    async def write(self, *, is_active: bool) -> None:
        async with self.database.unit_of_work(PLATFORM) as session:
            await session.execute(
                text("UPDATE users SET is_active = :is_active WHERE id = :id"),
                {"is_active": is_active, "id": self.owner.user_id},
            )

    async def living(self) -> set[UUID]:
        """Families with a token that is not revoked."""
        async with self.database.unit_of_work(PLATFORM) as session:
            found = await session.scalars(
                text("SELECT DISTINCT family_id FROM refresh_tokens WHERE user_id = :id AND revoked_at IS NULL"),
                {"id": self.owner.user_id},
            )
            return set(found)


async def _together(*work: Coroutine[Any, Any, Any]) -> list[Any]:
    return await asyncio.gather(*work, return_exceptions=True)


@pytest.fixture
def clock() -> TurnedClock:
    return StandingClock()


async def test_refresh_tokens_live_as_their_model_does(
    committed_feature: AuthFeature, committed_database: Database, clock: TurnedClock
) -> None:
    loop = asyncio.get_running_loop()

    def run() -> None:
        run_state_machine_as_test(
            lambda: RefreshLife(committed_feature, committed_database, clock, loop),  # type: ignore[arg-type]  # any maker does
            # Each step is a few transactions, so that making a failure small would take longer than a test may.
            settings=settings(
                settings.get_profile("untimed"),
                max_examples=30,
                stateful_step_count=20,
                phases=[Phase.explicit, Phase.generate],
                database=None,
            ),
        )

    await asyncio.to_thread(run)
