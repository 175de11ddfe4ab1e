from bwenge.kit.errors import Conflict


class IdempotencyKeyReused(Conflict):
    code = "idempotency_key_reused"
    title = "This Idempotency-Key came with another request before"


class IdempotencyInProgress(Conflict):
    code = "idempotency_in_progress"
    title = "The same request is still being worked on; send it again shortly"
