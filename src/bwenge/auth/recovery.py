"""Setting a password: by who knows the present one, by a mailed link, or by a code that a teacher shows.

Each opens its own units of work: passwords are hashed and mail is sent outside of them, and a try at a code is used up
whether it is right or not.
"""

import asyncio
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from bwenge.auth import group_queries, member_queries, recovery_queries, repository
from bwenge.auth.audit import attempt, note_unknown_account
from bwenge.auth.back_off import BackOff
from bwenge.auth.contract import AuditEntry, AuditLog, Members
from bwenge.auth.errors import InvalidCredentials, InvalidReset
from bwenge.auth.models import User
from bwenge.auth.opaque_tokens import hash_token, new_token
from bwenge.auth.password_policy import require_impersonal, require_uncommon
from bwenge.auth.passwords import Passwords
from bwenge.auth.tokens import Clock, utc_now
from bwenge.kit.db import PLATFORM, Database
from bwenge.kit.errors import Forbidden, NotFound
from bwenge.kit.identity import Caller, Principal, Role
from bwenge.kit.ids import new_id
from bwenge.kit.mail import Mailer

_log = structlog.get_logger(__name__)

LINK_LIFETIME: Final = timedelta(hours=1)
CODE_LIFETIME: Final = timedelta(hours=24)
MOST_LINKS: Final = 3
"""That may be used at one time: nobody's mailbox is filled by somebody who asks again and again."""
MOST_TRIES: Final = 1000
"""Of 40 bits that is one in a thousand million; fewer, and anybody could use up a pupil's code out of mischief."""
LETTERS: Final = "ABCDEFGHJKMNPQRSTUVWXYZ23456789"
"""Without I, L, O, 0 and 1, which look alike on a board: eight of them are 40 bits."""
CODE_LENGTH: Final = 8

FINISH_SECONDS: Final = 5.0

_MAILS_AT_ONCE: Final = 4
_FIELD: Final = "new_password"
_SUBJECT: Final = "Set a new password for Bwenge OS"
_TEXT: Final = """\
Hello {name},

somebody, most likely you, asked to set a new password for your account. Open this address within one hour:

{link}

If it was not you, there is nothing to do: your password stays as it is.
"""


@dataclass(frozen=True, slots=True)
class ResetCode:
    code: str
    expires_at: datetime


class Recovery:
    """Args: public_url: where people reach the platform, without a slash at its end."""

    def __init__(
        self,
        database: Database,
        *,
        passwords: Passwords,
        members: Members,
        back_off: BackOff,
        audit: AuditLog,
        mailer: Mailer,
        public_url: str,
        clock: Clock = utc_now,
    ) -> None:
        self._database = database
        self._passwords = passwords
        self._members = members
        self._back_off = back_off
        self._audit = audit
        self._mailer = mailer
        self._public_url = public_url
        self._clock = clock
        self._mailing: set[asyncio.Task[None]] = set()
        self._free = asyncio.Semaphore(_MAILS_AT_ONCE)

    async def change(self, caller: Caller, current: str, new: str) -> None:
        """Set the caller's own password and end every session but theirs.

        Raises:
            InvalidCredentials: The current password is wrong.
            CommonPassword
        """
        async with self._database.unit_of_work(PLATFORM) as session:
            user = await repository.get_active(session, caller)
        verification = await self._passwords.verify(current, None if user is None else user.password_hash)
        if user is None or not verification.is_right:
            async with self._database.unit_of_work(PLATFORM) as session:
                await self._audit.record(
                    session, AuditEntry.by(caller, "password.change_refused", target=("user", caller.user_id))
                )
            raise InvalidCredentials
        require_uncommon(new, field=_FIELD)
        require_impersonal(new, user, field=_FIELD)
        new_hash = await self._passwords.hash(new)
        async with self._database.unit_of_work(PLATFORM) as session:
            present = await repository.lock_user(session, user.id)
            # The password was checked outside of the transaction: a change of it or a deactivation came first.
            if present is None or not present.is_active or present.password_hash != user.password_hash:
                raise InvalidCredentials
            await self._set(session, present, new_hash, keep=caller.session_id)
            await self._audit.record(session, AuditEntry.by(caller, "password.changed", target=("user", present.id)))

    def mark(self, identifier: str) -> str:
        """What stands for an account, or for a link, in a count."""
        return self._back_off.mark(identifier)

    def begin_reset(self, identifier: str) -> None:
        """Mail a link to the account's address, if there is such an account, after the caller has been answered.

        What is found out takes its time where nobody can measure it.
        """
        task = asyncio.create_task(self._mail_link(identifier))
        self._mailing.add(task)
        task.add_done_callback(self._mailing.discard)

    async def finish(self) -> None:
        """Wait for what `begin_reset` has begun, a few seconds at the most."""
        if self._mailing:
            await asyncio.wait(self._mailing, timeout=FINISH_SECONDS)

    async def reset_by_link(self, token: str, new: str) -> None:
        """Set the password of whom the link was sent to, and end all of their sessions.

        Raises:
            InvalidReset, CommonPassword: The link may be used again after the latter.
        """
        require_uncommon(new, field=_FIELD)
        token_hash = hash_token(token)
        async with self._database.unit_of_work(PLATFORM) as session:
            user = await recovery_queries.user_of_link(session, token_hash, at=self._clock())
        if user is None:
            raise InvalidReset
        require_impersonal(new, user, field=_FIELD)
        new_hash = await self._passwords.hash(new)
        async with self._database.unit_of_work(PLATFORM) as session:
            present = await repository.lock_user(session, user.id)
            now = self._clock()
            # Two who use one link at once take turns at the lock, and the second one finds it used.
            if present is None or not await recovery_queries.has_link(session, user.id, token_hash, at=now):
                raise InvalidReset
            await self._reset(session, present, new_hash, by="link")

    async def reset_by_code(self, identifier: str, code: str, new: str) -> None:
        """The same with a code that the member was shown, as it was typed.

        Raises:
            InvalidReset: Also where the account is unknown, after the same work and time; a wrong code uses up a try.
            CommonPassword: The code may be used again.
        """
        require_uncommon(new, field=_FIELD)
        answer_at = asyncio.get_running_loop().time() + self._back_off.refusal_seconds
        async with self._database.unit_of_work(PLATFORM) as session:
            user = await repository.find_user(session, identifier)
            # Who is unknown or deactivated has no code, and costs the same work.
            user_id = user.id if user is not None and user.is_active else new_id()
            code_hash = await recovery_queries.take_try(session, user_id, at=self._clock(), most=MOST_TRIES)
        verification = await self._passwords.verify(_typed(code), code_hash)
        if user is None or code_hash is None or not verification.is_right:
            await self._note_refusal(user)
            # The audit log takes its time for an account that there is, and codes for one that has none.
            await asyncio.sleep(answer_at - asyncio.get_running_loop().time())
            raise InvalidReset
        async with self._database.unit_of_work(PLATFORM) as session:
            await recovery_queries.give_try_back(session, user.id, code_hash)
        require_impersonal(new, user, field=_FIELD)
        new_hash = await self._passwords.hash(new)
        async with self._database.unit_of_work(PLATFORM) as session:
            present = await repository.lock_user(session, user.id)
            now = self._clock()
            if present is None or not await recovery_queries.has_code(session, user.id, code_hash, at=now):
                raise InvalidReset
            await self._reset(session, present, new_hash, by="code")

    async def _note_refusal(self, user: User | None) -> None:
        if user is None:
            note_unknown_account("password.reset_refused")
            return
        async with self._database.unit_of_work(PLATFORM) as session:
            await self._audit.record(session, attempt(user, "password.reset_refused"))

    async def issue_code(self, principal: Principal, user_id: UUID) -> ResetCode:
        """A code to show to a member: a learner of the caller's own groups, or of administrators, anybody's.

        Raises:
            Unauthenticated: The caller was deactivated or got another role meanwhile.
            NotFound: No active member, or for an expert none of their own learners.
            Forbidden: The member's role is higher than the caller's, or it is the caller, who knows their password.
        """
        code = "".join(secrets.choice(LETTERS) for _ in range(CODE_LENGTH))
        code_hash = await self._passwords.hash(code)
        expires_at = self._clock() + CODE_LIFETIME
        async with self._database.unit_of_work(principal.org_id) as session:
            # Roles change under this lock: whatever ends codes comes before this one, or sees it.
            await member_queries.lock_organization(session, principal.org_id)
            await self._members.require_active(session, principal)
            user = await repository.get_member(session, user_id, org_id=principal.org_id)
            if user is None:
                raise NotFound
            await _require_may_reset(session, principal, user)
            await recovery_queries.put_code(
                session, user, code_hash, issued_by=principal.user_id, expires_at=expires_at
            )
            await self._audit.record(
                session, AuditEntry.by(principal, "password.code_issued", target=("user", user.id))
            )
        return ResetCode(code, expires_at)

    async def _mail_link(self, identifier: str) -> None:
        async with self._free:
            try:
                prepared = await self._prepare_link(identifier)
                if prepared is not None:
                    await self._send(*prepared)
            except Exception as error:  # noqa: BLE001  # nobody waits for this task: its log is all that tells of it
                _log.warning("password_reset_mail_failed", kind=type(error).__name__)

    async def _send(self, user: User, token: str) -> None:
        """A link that did not leave is taken back, so that it counts for nothing when mail leaves again."""
        text = _TEXT.format(name=user.name, link=f"{self._public_url}/app/reset?token={token}")
        try:
            await self._mailer.send(to=user.email or "", subject=_SUBJECT, text=text)
        except Exception:
            async with self._database.unit_of_work(PLATFORM) as session:
                await recovery_queries.delete_link(session, hash_token(token))
            raise

    async def _prepare_link(self, identifier: str) -> tuple[User, str] | None:
        """To whom, and the token of a link that works by now; None where nothing is mailed."""
        now = self._clock()
        async with self._database.unit_of_work(PLATFORM) as session:
            user = await repository.find_user(session, identifier)
            if user is None or not user.is_active:
                return None
            # Locked, so that requests at the same moment do not each count the links before the others add theirs.
            await repository.lock_user(session, user.id)
            await recovery_queries.delete_expired_links(session, user.id, at=now)
            is_mailed = (
                self._mailer.is_configured
                and user.email is not None
                and await recovery_queries.count_links(session, user.id, at=now) < MOST_LINKS
            )
            await self._audit.record(session, attempt(user, "password.reset_requested", is_mailed=is_mailed))
            if not is_mailed:
                return None
            token = new_token()
            await recovery_queries.add_link(session, user, hash_token(token), expires_at=now + LINK_LIFETIME)
        return user, token

    async def _reset(self, session: AsyncSession, user: User, new_hash: str, *, by: str) -> None:
        if not user.is_active:
            raise InvalidReset
        await self._set(session, user, new_hash)
        await self._audit.record(
            session,
            AuditEntry(
                user.org_id, user.id, "password.reset", target_type="user", target_id=str(user.id), detail={"by": by}
            ),
        )

    async def _set(self, session: AsyncSession, user: User, new_hash: str, *, keep: UUID | None = None) -> None:
        """Of a user whom the transaction has locked. What could set the password otherwise is void from now on."""
        user.password_hash = new_hash
        await session.flush()
        await recovery_queries.revoke_sessions(session, user.id, at=self._clock(), but=keep)
        await recovery_queries.delete_links_and_codes(session, user.id)
        await self._back_off.forget(session, str(user.id))


async def _require_may_reset(session: AsyncSession, principal: Principal, user: User) -> None:
    role = Role(user.role)
    if not principal.role.at_least(Role.ADMIN) and not await group_queries.has_learner(
        session, principal.user_id, user.id, org_id=principal.org_id
    ):
        raise NotFound
    if user.id == principal.user_id or not principal.role.at_least(role):
        raise Forbidden


def _typed(code: str) -> str:
    """As it was issued, whatever the case and the spaces it was copied with."""
    return "".join(code.split()).replace("-", "").upper()
