"""The plans, as data. Prices are RWF a month; None is without limit."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from bwenge.payments.contract import PlanName, QuotaKind

MB: Final = 1024**2
GB: Final = 1024**3


@dataclass(frozen=True, slots=True)
class Plan:
    """What an organisation may use: messages in a month, bytes in store, and active members at a time."""

    name: PlanName
    display_name: str
    price: int
    messages: int | None
    storage_bytes: int | None
    users: int | None

    def limit(self, kind: QuotaKind) -> int | None:
        return self.messages if kind is QuotaKind.MESSAGES else self.storage_bytes


FREE: Final = Plan("free", "Free", price=0, messages=500, storage_bytes=500 * MB, users=50)

PLANS: Final = (
    FREE,
    Plan("basic", "Basic", price=15_000, messages=5_000, storage_bytes=5 * GB, users=200),
    Plan("pro", "Pro", price=75_000, messages=50_000, storage_bytes=50 * GB, users=1_000),
    Plan("enterprise", "Enterprise", price=300_000, messages=None, storage_bytes=None, users=None),
)

_BY_NAME: Final[Mapping[str, Plan]] = {plan.name: plan for plan in PLANS}


def plan_named(name: str) -> Plan:
    """Raises KeyError for a name that is none."""
    return _BY_NAME[name]
