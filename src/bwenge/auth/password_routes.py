from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Request, Response

from bwenge.auth.password_schemas import (
    ForgottenBody,
    ForgottenResponse,
    PasswordChangeBody,
    ResetBody,
    ResetCodeResponse,
)
from bwenge.auth.recovery import Recovery
from bwenge.kit.http.dependencies import ActiveCaller, ActivePrincipal, OwnTenant, provided
from bwenge.kit.http.problems import problems
from bwenge.kit.http.rates import CurrentRateLimiter, client_network, limited
from bwenge.kit.http.security import anyone, holders, members, signed_in
from bwenge.kit.identity import Role
from bwenge.kit.ratelimit import RateLimiter

router = APIRouter(tags=["auth"])

CurrentRecovery = Annotated[Recovery, Depends(provided(Recovery))]


@router.post(
    "/auth/password",
    operation_id="changePassword",
    status_code=204,
    dependencies=[signed_in(), limited("auth.password", "5/minute")],
    responses=problems(401, 403, 422, 429),
)
async def change_password(body: PasswordChangeBody, caller: ActiveCaller, recovery: CurrentRecovery) -> None:
    """Set one's own password. Every other session of the account ends at once."""
    await recovery.change(caller, body.current_password, body.new_password)


@router.post(
    "/auth/password/forgot",
    operation_id="forgetPassword",
    status_code=202,
    dependencies=[anyone(), limited("auth.password_forgot", "100/minute", by="address")],
    responses=problems(422, 429),
)
async def forget_password(
    body: ForgottenBody, request: Request, limiter: CurrentRateLimiter, recovery: CurrentRecovery
) -> ForgottenResponse:
    """Have a link to set a new password mailed. The answer is the same whether there is such an account or not."""
    await _limit_account(limiter, request, "auth.password_forgot_account", recovery.mark(body.account()))
    recovery.begin_reset(body.account())
    return ForgottenResponse()


@router.post(
    "/auth/password/reset",
    operation_id="resetPassword",
    status_code=204,
    dependencies=[holders(), limited("auth.password_reset", "100/minute", by="address")],
    responses=problems(401, 422, 429),
)
async def reset_password(
    body: ResetBody, request: Request, limiter: CurrentRateLimiter, recovery: CurrentRecovery
) -> None:
    """Set a new password by a mailed link, within one hour, or by a code that was shown, within a day.

    Either works once, and ends every session of the account. Five codes a minute may be tried for an account.
    """
    account = recovery.mark(body.token or body.username or "")
    await _limit_account(limiter, request, "auth.password_reset_account", account)
    if body.token is not None:
        await recovery.reset_by_link(body.token, body.new_password)
    else:
        await recovery.reset_by_code(body.username or "", body.code or "", body.new_password)


@router.post(
    "/orgs/{org_id}/members/{user_id}/reset",
    operation_id="issueResetCode",
    dependencies=[members(Role.EXPERT, by_key=False), limited("auth.reset_code", "50/minute")],
    responses=problems(401, 403, 404, 422, 429),
    tags=["organisations"],
)
async def issue_reset_code(
    org_id: OwnTenant, user_id: UUID, principal: ActivePrincipal, response: Response, recovery: CurrentRecovery
) -> ResetCodeResponse:
    """A code to show to a member who forgot their password: experts to learners of their own groups."""
    del org_id
    response.headers["Cache-Control"] = "no-store"
    return ResetCodeResponse.model_validate(await recovery.issue_code(principal, user_id))


async def _limit_account(limiter: RateLimiter, request: Request, name: str, account: str) -> None:
    """Narrow by account and wide by address, behind which a whole school may sit."""
    await limiter.hit(name, "5/minute", f"address:{client_network(request)}", f"account:{account}")
