"""The routes that every service has: /health, /health/ready, /metrics."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, Literal

import structlog
from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel

from bwenge.kit.errors import BwengeError
from bwenge.kit.http.security import anyone

_log = structlog.get_logger(__name__)

ReadinessCheck = Callable[[], Awaitable[None]]
"""Returns when the dependency works, raises when it does not."""

CHECK_SECONDS: Final = 3.0

router = APIRouter(tags=["system"])


class Health(BaseModel):
    status: Literal["ok"] = "ok"


class Readiness(BaseModel):
    status: Literal["ready", "unavailable"]
    checks: dict[str, Literal["ok", "failed"]]


@router.get("/health", dependencies=[anyone()])
async def health() -> Health:
    """The process is alive; says nothing of what it depends on."""
    return Health()


@router.get("/health/ready", dependencies=[anyone()], responses={503: {"model": Readiness}})
async def readiness(request: Request, response: Response) -> Readiness:
    """Each dependency's state; 503 when one does not answer within three seconds."""
    checks: Mapping[str, ReadinessCheck] = request.app.state.readiness_checks
    outcomes = await asyncio.gather(*(_holds(name, check) for name, check in checks.items()))
    ready = all(outcomes)
    if not ready:
        response.status_code = 503
        response.headers["Retry-After"] = "5"
    return Readiness(
        status="ready" if ready else "unavailable",
        checks={name: "ok" if ok else "failed" for name, ok in zip(checks, outcomes, strict=True)},
    )


async def _holds(name: str, check: ReadinessCheck) -> bool:
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            await check()
    except (BwengeError, OSError, TimeoutError) as error:  # it is away, and will be asked again in a moment
        _log.warning("readiness_check_failed", check=name, reason=type(error).__name__)
        return False
    except Exception:  # noqa: BLE001  # whatever a dependency raises, the answer is that it is not ready
        _log.warning("readiness_check_failed", check=name, exc_info=True)
        return False
    return True


@router.get("/metrics", dependencies=[anyone()], response_class=Response)
async def metrics() -> Response:
    """Prometheus text format."""
    return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)
