from typing import Annotated

from fastapi import APIRouter, Depends

from bwenge.chat.session_stats import SessionStatistics
from bwenge.chat.stats_schemas import SessionStats
from bwenge.kit.http.dependencies import OwnTenant, TenantSession, provided
from bwenge.kit.http.problems import problems
from bwenge.kit.http.security import CurrentPrincipal, members
from bwenge.kit.identity import Role

router = APIRouter(tags=["chat"])

Statistics = Annotated[SessionStatistics, Depends(provided(SessionStatistics))]


@router.get(
    "/orgs/{org_id}/sessions/stats",
    operation_id="getSessionStats",
    dependencies=[members(Role.ADMIN)],
    responses=problems(401, 403, 404),
)
async def get_session_stats(
    org_id: OwnTenant, principal: CurrentPrincipal, session: TenantSession, statistics: Statistics
) -> SessionStats:
    """How much is being said in the organisation, today and now."""
    return await statistics.present(session, principal, org_id)
