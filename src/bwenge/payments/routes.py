from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends

from bwenge.kit.http.dependencies import ActiveOperator, TenantSession, provided
from bwenge.kit.http.problems import problems
from bwenge.kit.http.rates import limited
from bwenge.kit.http.security import CurrentPrincipal, anyone, members, operators
from bwenge.payments.plans import PLANS
from bwenge.payments.schemas import GrantBody, PlanResponse, PlansResponse, SubscriptionResponse
from bwenge.payments.service import Grant, SubscriptionService

router = APIRouter(tags=["payments"])

Subscriptions = Annotated[SubscriptionService, Depends(provided(SubscriptionService))]


@router.get("/plans", operation_id="listPlans", dependencies=[anyone()])
async def list_plans() -> PlansResponse:
    """Every plan, the smallest first."""
    return PlansResponse(plans=[PlanResponse.of(plan) for plan in PLANS])


@router.get(
    "/subscriptions/current",
    operation_id="getCurrentSubscription",
    dependencies=[members(by_confined_key=True)],
    responses=problems(401, 403),
)
async def get_current_subscription(
    principal: CurrentPrincipal, session: TenantSession, subscriptions: Subscriptions
) -> SubscriptionResponse:
    """The plan of the caller's organisation, and what is used of it."""
    return SubscriptionResponse.of(await subscriptions.present(session, principal.org_id))


@router.post(
    "/operator/orgs/{org_id}/grant",
    operation_id="grantPlan",
    dependencies=[limited("operator", "100/minute"), operators()],
    responses=problems(401, 403, 404, 422, 429),
)
async def grant_plan(
    org_id: UUID, body: GrantBody, operator: ActiveOperator, subscriptions: Subscriptions
) -> SubscriptionResponse:
    """Give an organisation a plan without payment, from now on and in the place of its present one."""
    grant = Grant(plan_name=body.plan_name, until=body.until, reason=body.reason)
    return SubscriptionResponse.of(await subscriptions.grant(org_id, grant, by=operator))
