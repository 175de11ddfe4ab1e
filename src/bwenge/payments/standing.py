"""What an organisation has at a moment: its plan, and what it has used of it."""

from dataclasses import dataclass

from bwenge.payments.contract import QuotaKind, QuotaUse
from bwenge.payments.models import Subscription
from bwenge.payments.periods import ALWAYS, Counter, Period
from bwenge.payments.plans import Plan


@dataclass(frozen=True, slots=True)
class Standing:
    """What an organisation has at the moment; without a subscription in force it is the free plan.

    Attributes:
        period: Until whose end its messages have to do.
        messages: Where they are counted.
    """

    plan: Plan
    subscription: Subscription | None
    period: Period
    messages: Counter

    @property
    def current_period(self) -> Period:
        """The subscription's, which may be longer than the one that messages are counted in."""
        if self.subscription is None:
            return self.period
        return Period(self.subscription.current_period_start, self.subscription.current_period_end)

    def counter(self, kind: QuotaKind) -> Counter:
        return Counter.of_period(ALWAYS) if kind is QuotaKind.STORAGE else self.messages


@dataclass(frozen=True, slots=True)
class Present:
    """An organisation's plan at the moment, and what it has used of it."""

    standing: Standing
    messages: QuotaUse
    storage: QuotaUse
    users: QuotaUse
