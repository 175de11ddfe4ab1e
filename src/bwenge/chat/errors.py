"""What chat refuses, as named facts. `bwenge.chat.protocol` says how each is told on a socket."""

from typing import ClassVar

from bwenge.kit.errors import Conflict, Invalid, NotFound, RateLimited, TooLarge, Unauthenticated, Unavailable


class SessionNotFound(NotFound):
    """Unknown, foreign, deleted, of another persona or another user."""


class SessionDeleted(NotFound):
    """The session was deleted while a socket of it was open."""

    title = "This session was deleted"


class MemberDeactivated(Unauthenticated):
    title = "This account is not active any more"


class BadFrame(Invalid):
    code: ClassVar[str] = "bad_frame"
    title = "This frame is not one of the protocol"


class TooLong(TooLarge):
    code: ClassVar[str] = "too_long"
    title = "The question is too long"


class TurnInProgress(Conflict):
    code: ClassVar[str] = "turn_in_progress"
    title = "The question before is still being answered"


class TooManyQuestions(RateLimited):
    title = "Too many questions in a minute"


class TooManySockets(RateLimited):
    title = "Too many open connections"


class PersonaUnavailable(Unavailable):
    code: ClassVar[str] = "persona_unavailable"
    title = "This persona does not answer at the moment"


class AnswerMissing(Unavailable):
    """The model ended without a word, or took longer than a turn may."""

    code: ClassVar[str] = "model_unavailable"
    title = "The language model gave no answer"


class TurnLost(Unavailable):
    code: ClassVar[str] = "turn_lost"
    title = "The answer was interrupted; please ask again"


class Restarting(Unavailable):
    """This process begins no turns any more; another one does."""

    title = "The service is restarting"
