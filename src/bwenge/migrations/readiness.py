"""Whether a database has the schema that this release of the code needs."""

from alembic.script import ScriptDirectory
from sqlalchemy import text
from sqlalchemy.exc import ProgrammingError

from bwenge.kit.db import PLATFORM, Database
from bwenge.migrations.runner import alembic_config


async def has_present_schema(database: Database) -> bool:
    """True also for the schema of a later release, which the one before still works with.

    Raises:
        DatabaseUnavailable: It does not answer, or refuses the platform's login.
    """
    try:
        async with database.unit_of_work(PLATFORM) as session:
            revision = await session.scalar(text("SELECT version_num FROM alembic_version"))
    except ProgrammingError:  # nothing was migrated here
        return False
    scripts = ScriptDirectory.from_config(alembic_config())
    earlier = {script.revision for script in scripts.walk_revisions()} - {scripts.get_current_head()}
    return revision is not None and revision not in earlier
