"""`bwenge worker` and `bwenge beat`."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console

from bwenge.apps.beat import run_beat
from bwenge.apps.companion import CompanionDied, NotSplit, redis_url_of
from bwenge.apps.resources import SchemaTooOld
from bwenge.apps.settings import Settings
from bwenge.apps.worker import run_worker
from bwenge.cli.failures import CommandFailed
from bwenge.cli.serving import NO_ANSWER, load_secrets
from bwenge.kit.db import DatabaseUnavailable
from bwenge.kit.jobs.queues import QUEUES
from bwenge.kit.telemetry import configure_logging


def parse_queues(names: str | None) -> Sequence[str]:
    """Queues from a comma list; all of them where none is given. Raises ValueError for an unknown one."""
    if names is None:
        return tuple(QUEUES)
    chosen = [name.strip() for name in names.split(",") if name.strip()]
    unknown = [name for name in chosen if name not in QUEUES]
    if unknown or not chosen:
        raise ValueError(f"there is no queue {', '.join(unknown) or 'of that name'}; there are {', '.join(QUEUES)}")
    return tuple(dict.fromkeys(chosen))


def work(settings: Settings, output: Console, *, queues: Sequence[str], concurrency: int | None) -> int:
    """Do jobs until a signal; returns the exit code.

    Raises:
        CommandFailed: No external database or Redis is named, or the database does not answer or is not migrated.
    """
    with _told_plainly(settings):
        _tell(output, f"Working on {', '.join(queues)}; Ctrl-C stops.")
        return run_worker(settings, load_secrets(settings), queues=queues, concurrency=concurrency)


def keep_time(settings: Settings, output: Console) -> None:
    """Keep time until a signal. Raises as `work`."""
    with _told_plainly(settings):
        _tell(output, "Keeping time; Ctrl-C stops.")
        run_beat(settings, load_secrets(settings))


def _tell(output: Console, line: str) -> None:
    """To a person: in a file, all that this process writes is JSON lines."""
    if output.is_terminal:
        output.print(line, style="dim", markup=False)


@contextmanager
def _told_plainly(settings: Settings) -> Iterator[None]:
    try:
        redis_url_of(settings)
        # To standard error alone: the log file beside the data turns over, and is one process's.
        configure_logging(level=settings.log_level)
        # What Celery says of each message is noise beside what is said of each job.
        logging.getLogger("celery").setLevel(logging.WARNING)
        yield
    except (CompanionDied, NotSplit, SchemaTooOld) as error:
        raise CommandFailed(str(error)) from error
    except DatabaseUnavailable as error:
        raise CommandFailed(NO_ANSWER) from error
