from bwenge.kit.errors import Conflict, Forbidden, Invalid, PaymentRequired, TooLarge, Unauthenticated
from bwenge.kit.jobs.kinds import AttemptFailed


class EmailTaken(Conflict):
    code = "email_taken"
    title = "An account with this email address exists already"


class UsernameTaken(Conflict):
    code = "username_taken"
    title = "An account with this username exists already"


class InvalidCredentials(Unauthenticated):
    """One answer for an unknown account, a wrong password and a deactivated member."""

    code = "invalid_credentials"
    title = "The account or the password is not right"


class InvalidRefreshToken(Unauthenticated):
    """Unknown, expired or revoked."""

    title = "The refresh token is not valid any more; sign in again"


class MissingRefreshToken(Invalid):
    def __init__(self) -> None:
        super().__init__(errors=[{"field": "refresh_token", "code": "missing", "message": "Field required"}])


class TokenReused(Unauthenticated):
    """A rotated token came back after its grace, so it was copied: its whole family is revoked."""

    code = "token_reused"
    title = "The refresh token was used before; sign in again"


class InvalidInvitation(Invalid):
    """Unknown, expired, revoked and used up: one answer, so that nobody learns whether a link ever was one."""

    code = "invalid_invitation"
    title = "This invitation or link is not valid; ask for a new one"


class SeatsExhausted(PaymentRequired):
    code = "quota_exhausted"
    title = "Every seat of the plan is taken: deactivate a member, revoke an invitation, or choose a larger plan"


class NoSeatToJoin(SeatsExhausted):
    """The same, to whom it is that finds the door closed."""

    title = "The organisation has no free seat at the moment: tell whoever gave you this link"


class RoleAboveOwn(Forbidden):
    title = "Nobody gives, takes or changes a role above their own"


class LastOwner(Conflict):
    code = "last_owner"
    title = "The organisation keeps an active owner: make another member an owner first"


class RosterTooLong(TooLarge):
    title = "A list of members has at most 1,000 rows"


class InvalidReset(Unauthenticated):
    """Unknown, expired, used up, guessed at too often, or of a deactivated member."""

    code = "invalid_reset"
    title = "The link or the code is not valid any more; ask for a new one"


class CommonPassword(Invalid):
    """Args: field: how the client named the password."""

    title = "This password is too easily guessed; choose another"

    def __init__(self, field: str) -> None:
        super().__init__(errors=[{"field": field, "code": "too_common", "message": self.title}])


class NameNotConfirmed(Invalid):
    title = "This is not the organisation's name"


class ExportNotStored(AttemptFailed):
    """There was no room for it, on the disk or in the store."""

    code = "storage_failed"
