"""`bwenge grant`."""

import asyncio
from datetime import date, datetime
from typing import Final
from uuid import UUID

from bwenge.apps.administration import PlanName, grant_plan, join_server
from bwenge.apps.settings import Settings
from bwenge.cli.directories import require_database
from bwenge.cli.failures import CommandFailed
from bwenge.cli.serving import NO_ANSWER, load_secrets, told_plainly
from bwenge.kit.db import DatabaseUnavailable
from bwenge.kit.errors import Invalid, NotFound
from bwenge.kit.telemetry import configure_logging

_NOT_REACHED: Final = (
    "The data directory {} is in use, and the database of whoever uses it does not answer this command. Try again when "
    "the platform is ready, as the user who started it, or stop it first."
)


def grant(settings: Settings, *, org_id: UUID, plan_name: PlanName, until: date, reason: str) -> datetime:
    """Give the plan, whether the platform runs or not; returns when it ends.

    Raises:
        CommandFailed: there is no such organisation, the date is refused, or no database answers.
    """
    require_database(settings)
    secrets = load_secrets(settings)
    # What is done stands in the audit log; the log file, which turns over, is the running platform's.
    configure_logging(level="ERROR")
    with told_plainly(), join_server(settings, secrets) as server:
        granting = grant_plan(server, secrets, org_id=org_id, plan_name=plan_name, until=until, reason=reason)
        try:
            return asyncio.run(granting)
        except NotFound as error:
            raise CommandFailed(f"There is no organisation {org_id}.") from error
        except Invalid as error:
            raise CommandFailed(" ".join(str(finding["message"]) for finding in error.errors)) from error
        except DatabaseUnavailable as error:
            reason = _NOT_REACHED.format(settings.data_dir) if settings.database_url is None else NO_ANSWER
            raise CommandFailed(reason) from error
