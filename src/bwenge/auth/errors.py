from bwenge.kit.errors import Conflict, Invalid, Unauthenticated


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


class TokenReused(Unauthenticated):
    """A rotated token came back after its grace, so it was copied: its whole family is revoked."""

    code = "token_reused"
    title = "The refresh token was used before; sign in again"


class UnsupportedRegistration(Invalid):
    code = "unsupported"
    title = "This installation registers new organisations only"
