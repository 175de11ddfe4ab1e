"""How much is being said in an organisation."""

from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from bwenge.auth.contract import Tenants
from bwenge.chat import transcript_queries
from bwenge.chat.stats_schemas import PersonaStats, SessionStats
from bwenge.kit.identity import Principal
from bwenge.persona.contract import Personas


class SessionStatistics:
    def __init__(self, *, personas: Personas, tenants: Tenants) -> None:
        self._personas = personas
        self._tenants = tenants

    async def present(self, session: AsyncSession, principal: Principal, org_id: UUID) -> SessionStats:
        """The time zone of the organisation, which is the principal's, says when today began."""
        time_zone = await self._tenants.time_zone(session, org_id)
        activity = await transcript_queries.activity(session, org_id=org_id, time_zone=time_zone)
        names = await self._personas.names(session, principal, [persona.persona_id for persona in activity])
        return SessionStats(
            active_sessions=sum(persona.sessions for persona in activity),
            active_turns=await transcript_queries.count_running_turns(session, org_id=org_id),
            messages_today=sum(persona.messages for persona in activity),
            by_persona=[
                PersonaStats(
                    persona_id=persona.persona_id,
                    name=names.get(persona.persona_id),
                    sessions=persona.sessions,
                    messages=persona.messages,
                )
                for persona in activity
            ],
        )
