from bwenge.kit.errors import Conflict, Invalid, NotFound, TooLarge


class SourceNotFound(NotFound):
    pass


class FileTooLarge(TooLarge):
    title = "A file may have at most 100 MB"


class MalformedUpload(Invalid):
    title = "The upload is not a well-formed multipart form with the fields file and persona_id"


class SourceChanged(Conflict):
    """The source was deleted, or taken over by another run, while it was being worked on."""

    title = "The source was deleted meanwhile"
