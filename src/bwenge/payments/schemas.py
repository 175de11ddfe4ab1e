from datetime import date
from typing import Annotated, Literal, Self
from uuid import UUID

from pydantic import AwareDatetime, Field

from bwenge.kit.http.schemas import RequestBody, ResponseBody, Timestamp
from bwenge.payments.contract import PlanName
from bwenge.payments.plans import Plan
from bwenge.payments.standing import Present

SubscriptionStatus = Literal["pending", "active", "past_due", "cancelled", "expired"]


class PlanQuotasResponse(ResponseBody):
    """Null is without limit."""

    messages: int | None = Field(description="A month")
    storage_bytes: int | None
    users: int | None


class PlanResponse(ResponseBody):
    plan_name: PlanName
    display_name: str
    price: int = Field(description="A month")
    currency: Literal["RWF"] = "RWF"
    quotas: PlanQuotasResponse

    @classmethod
    def of(cls, plan: Plan) -> Self:
        return cls(
            plan_name=plan.name,
            display_name=plan.display_name,
            price=plan.price,
            quotas=PlanQuotasResponse.model_validate(plan),
        )


class PlansResponse(ResponseBody):
    plans: list[PlanResponse]


class QuotaResponse(ResponseBody):
    limit: int | None = Field(description="Null is without limit")
    used: int
    percentage: float | None = Field(description="Of the limit; null without one")


class UsedQuotasResponse(ResponseBody):
    messages: QuotaResponse = Field(description="In the present month")
    storage: QuotaResponse = Field(description="In bytes")
    users: QuotaResponse


class SubscriptionResponse(ResponseBody):
    """Without a subscription in force: the free plan, counted by calendar month."""

    subscription_id: UUID | None
    plan: PlanName
    status: SubscriptionStatus
    current_period_start: Timestamp
    current_period_end: Timestamp
    cancel_at_period_end: bool
    quotas: UsedQuotasResponse

    @classmethod
    def of(cls, present: Present) -> Self:
        subscription, period = present.standing.subscription, present.standing.current_period
        return cls(
            subscription_id=None if subscription is None else subscription.id,
            plan=present.standing.plan.name,
            status="active" if subscription is None else subscription.status,
            current_period_start=period.start,
            current_period_end=period.end,
            cancel_at_period_end=subscription is not None and subscription.cancel_at_period_end,
            quotas=UsedQuotasResponse.model_validate(present),
        )


Reason = Annotated[str, Field(min_length=1, max_length=500, examples=["Pilot school of the district"])]


class GrantBody(RequestBody):
    plan_name: PlanName
    until: AwareDatetime | date = Field(
        description="A moment in the future or, as a date, the end of that day in the organisation's time zone"
    )
    reason: Reason = Field(description="Stands in the organisation's audit log")
