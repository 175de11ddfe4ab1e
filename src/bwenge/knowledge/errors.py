from typing import ClassVar

from bwenge.kit.errors import Conflict, Invalid, NotFound, TooLarge
from bwenge.kit.jobs.kinds import AttemptFailed


class SourceNotFound(NotFound):
    pass


class FileTooLarge(TooLarge):
    title = "A file may have at most 100 MB"


class MalformedUpload(Invalid):
    title = "The upload is not a well-formed multipart form with the fields file and persona_id"


class StorageFull(AttemptFailed):
    """The disk is full: a document may be sound, and is tried again."""

    code: ClassVar[str] = "storage_failed"


class SourceChanged(Conflict):
    """The source was deleted, or taken over by another run, while it was being worked on."""

    title = "The source was deleted meanwhile"
