from dataclasses import dataclass

from fastapi import APIRouter

from bwenge.auth.contract import AuditLog, Tenants
from bwenge.kit.db import Database
from bwenge.payments.periods import Clock, utc_now
from bwenge.payments.quotas import PlanQuotas
from bwenge.payments.routes import router
from bwenge.payments.service import SubscriptionService


@dataclass(frozen=True, slots=True)
class PaymentsFeature:
    """Plans and what organisations use of them.

    Attributes:
        quotas: For the features whose acts cost something, and for `auth.contract.SeatPolicy`.
    """

    router: APIRouter
    quotas: PlanQuotas
    subscriptions: SubscriptionService

    @property
    def provided(self) -> tuple[object, ...]:
        """What the routes ask for."""
        return (self.subscriptions,)


def build(database: Database, *, tenants: Tenants, audit: AuditLog, clock: Clock = utc_now) -> PaymentsFeature:
    quotas = PlanQuotas(tenants, clock=clock)
    subscriptions = SubscriptionService(database, quotas=quotas, tenants=tenants, audit=audit, clock=clock)
    return PaymentsFeature(router=router, quotas=quotas, subscriptions=subscriptions)
