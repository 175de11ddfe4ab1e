from sqlalchemy.ext.asyncio import AsyncSession

from bwenge.analytics.contract import NewEvent
from bwenge.analytics.models import AnalyticsEvent
from bwenge.kit.ids import new_id


class EventLog:
    """Writes events beside the act that they speak of; implements `EventRecorder`."""

    async def record(self, session: AsyncSession, event: NewEvent) -> None:
        session.add(
            AnalyticsEvent(
                id=new_id(),
                org_id=event.org_id,
                user_id=event.user_id,
                persona_id=event.persona_id,
                session_id=event.session_id,
                event_type=event.event_type,
                payload=dict(event.payload),
            )
        )
        await session.flush()
