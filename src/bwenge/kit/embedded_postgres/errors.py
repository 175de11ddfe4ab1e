"""What the operator is told when the embedded server does not come up."""


class PostgresFailedToStart(RuntimeError):
    """The embedded PostgreSQL could not be set up or started.

    Attributes:
        reason: One sentence saying what failed.
        log: The last lines that PostgreSQL wrote about it; empty where it never ran.
    """

    def __init__(self, reason: str, *, log: str = "") -> None:
        self.reason = reason
        self.log = log
        super().__init__(f"{reason}\n{log}" if log else reason)
