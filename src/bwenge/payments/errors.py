from bwenge.kit.errors import Invalid, PaymentRequired


class QuotaExhausted(PaymentRequired):
    """The detail says what is used up and what the reader can do about it."""

    code = "quota_exhausted"
    title = "The plan's quota is used up"


class GrantEndRefused(Invalid):
    """`until` is not in the future, or further away than any grant should be."""

    def __init__(self, message: str) -> None:
        super().__init__(errors=[{"field": "until", "code": "invalid", "message": message}])
