"""What commands ask of the data directory before they touch it: a mistaken one is told, and stays as it is."""

from typing import Final

from bwenge.apps.secrets import Secrets
from bwenge.apps.settings import Settings
from bwenge.cli.failures import CommandFailed

_NAME_IT: Final = "Name the platform's directory with --data-dir, and be the user who starts the platform."
_NO_DATABASE: Final = f"There is no database in {{}} that this command may use. {_NAME_IT}"
_NO_KEYS: Final = f"There are no keys in {{}} that this command may change. {_NAME_IT}"


def require_database(settings: Settings) -> None:
    """Raises `CommandFailed` where the directory has no database and no setting names one elsewhere."""
    try:
        is_there = settings.database_url is not None or (settings.data_dir / "postgres").is_dir()
    except PermissionError:
        is_there = False
    if not is_there:
        raise CommandFailed(_NO_DATABASE.format(settings.data_dir))


def require_keys(settings: Settings) -> None:
    """Raises `CommandFailed` where no platform has ever signed with the directory's keys."""
    try:
        is_there = settings.data_dir.is_dir() and Secrets.exist_for(settings)
    except PermissionError:
        is_there = False
    if not is_there:
        raise CommandFailed(_NO_KEYS.format(settings.data_dir))
