"""Wire shapes of changed, forgotten and reset passwords."""

from typing import Annotated, Final, Self

from pydantic import Field, StringConstraints, model_validator

from bwenge.auth.schemas import AccountBody, Identifier, NewPassword, OpaqueToken, PresentedPassword
from bwenge.kit.http.schemas import RequestBody, ResponseBody, Timestamp

ACCEPTED: Final = "If there is such an account and it has an email address, a link is on its way."

TypedCode = Annotated[str, StringConstraints(min_length=1, max_length=32), Field(examples=["K7QM3XPA"])]


class PasswordChangeBody(RequestBody):
    current_password: PresentedPassword
    new_password: NewPassword


class ForgottenBody(AccountBody):
    """Whose password was forgotten."""


class ResetBody(RequestBody):
    """Either the `token` of a mailed link, or a `code` with the `username` (or email address) it was shown for."""

    token: OpaqueToken | None = Field(default=None, repr=False)
    username: Identifier | None = None
    code: TypedCode | None = Field(default=None, repr=False)
    new_password: NewPassword

    @model_validator(mode="after")
    def _require_one_proof(self) -> Self:
        has_code = self.code is not None and self.username is not None
        has_part = self.code is not None or self.username is not None
        if has_part != has_code or has_code == (self.token is not None):
            raise ValueError("give either token, or code and username")
        return self


class ForgottenResponse(ResponseBody):
    detail: str = ACCEPTED


class ResetCodeResponse(ResponseBody):
    code: str = Field(description="To show to the member; shown once", examples=["K7QM3XPA"])
    expires_at: Timestamp
