from bwenge.kit.errors import Conflict, Forbidden, NotFound, Unavailable


class PersonaNotFound(NotFound):
    code = "not_found"


class NotOwnPersona(Forbidden):
    title = "Only the persona's owner or an administrator may change it"


class VersionConflict(Conflict):
    code = "version_conflict"
    title = "The persona was changed in between; read it again"


class ModelUnavailable(Unavailable):
    code = "model_unavailable"
    title = "The language model stopped answering"
