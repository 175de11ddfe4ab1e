"""What the gateway tells clients by itself, and what ends an exchange without an answer."""

from bwenge.kit.errors import TooLarge, Unavailable


class ServiceUnavailable(Unavailable):
    code = "service_unavailable"
    title = "This part of the platform does not answer at the moment"


class ServiceTimedOut(Unavailable):
    code = "service_timed_out"
    title = "This part of the platform did not answer in time"


class BodyTooLarge(TooLarge):
    title = "The request's body is larger than this address takes"


class BodyTooSlow(Exception):
    """The request's body was not there in time."""


class Broken(Exception):
    """A service ended the connection, or spoke no HTTP, before its answer was whole."""


class ClientLeft(Exception):
    """Nobody waits for the answer."""
