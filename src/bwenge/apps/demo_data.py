"""Demo data: a school, its owner, a learner, a mathematics tutor, and a lesson for it to teach from.

Every step finds what an interrupted run left, so the whole may be repeated; `demo.json` is written last. The platform
serves without it: what goes wrong here is told, and tried again at the next start.
"""

import asyncio
import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import structlog

from bwenge.apps.composition import Platform
from bwenge.apps.resources import Announce
from bwenge.apps.secrets import Secrets
from bwenge.apps.settings import Settings
from bwenge.auth.errors import EmailTaken, UsernameTaken
from bwenge.auth.service import caller_of
from bwenge.kit.identity import Principal, Role, member
from bwenge.kit.pagination import PageRequest
from bwenge.knowledge.service import ReceivedFile
from bwenge.persona.schemas import PersonaBody

_log = structlog.get_logger(__name__)

FILE_NAME: Final = "demo.json"
FIRST_QUESTION: Final = "What is the formula for simple interest?"

OWNER_EMAIL: Final = "owner@demo.bwenge.example"
LEARNER_USERNAME: Final = "demo.learner"
LESSON_TITLE: Final = "Percentages, ratio and linear equations in daily life"
POLL_SECONDS: Final = 0.1

PERSONA: Final[Mapping[str, Any]] = {
    "name": "Gabriel",
    "description": "A mathematics tutor for lower secondary school.",
    "tone": {"style": "warm and patient", "formality": "plain words, short sentences"},
    "rules": {"guidelines": ["Explain step by step.", "Use examples from daily life in Rwanda."]},
    "sample_prompts": [
        FIRST_QUESTION,
        "How do I share an amount in a ratio?",
        "How do I find the original amount in a reverse percentage problem?",
    ],
    "safety_rules": ["Keep to the lesson; send personal troubles to a teacher."],
    "settings": {"language": "en"},
}


@dataclass(frozen=True)
class Ready:
    """What to tell the person who started the platform; `demo` is the content of demo.json, where there is one."""

    demo: Mapping[str, Any] | None
    demo_is_new: bool


class LessonFailed(Exception):
    """The lesson did not become a source that can be asked about."""


class DemoData:
    def __init__(self, settings: Settings, secrets: Secrets, platform: Platform) -> None:
        self._settings = settings
        self._secrets = secrets
        self._platform = platform
        self._path = settings.data_dir / FILE_NAME

    async def ensure(self, announce: Announce) -> Ready:
        """Make the demo data on the first start; later only keep the address in demo.json true."""
        kept = _read(self._path)
        if kept is None:
            if not self._settings.wants_demo:
                return Ready(demo=None, demo_is_new=False)
            return await self._make_or_tell(announce)
        if kept.get("url") != self._settings.url:
            kept["url"] = self._settings.url
            _write_private(self._path, kept)
        return Ready(demo=kept, demo_is_new=False)

    async def _make_or_tell(self, announce: Announce) -> Ready:
        announce("Making demo data: a school, a tutor and its lesson")
        try:
            content = await self._make()
            _write_private(self._path, content)
        except Exception as error:  # noqa: BLE001  # whatever it is, it concerns the demo alone
            _log.exception("demo_data_failed")
            reason = str(error) if isinstance(error, LessonFailed) else "the log says why"
            announce(f"There is no demo data ({reason}); the next start tries again")
            return Ready(demo=None, demo_is_new=False)
        return Ready(demo=content, demo_is_new=True)

    async def _make(self) -> dict[str, Any]:
        owner_password = self._secrets.readable_password("demo owner")
        learner_password = self._secrets.readable_password("demo learner")
        owner = await self._owner(owner_password)
        learner_id = await self._learner(owner, learner_password)
        persona_id = await self._persona(owner)
        source_id = await self._lesson(owner, persona_id)
        return {
            "url": self._settings.url,
            "org_id": str(owner.org_id),
            "persona_id": str(persona_id),
            "source_id": str(source_id),
            "owner": {"user_id": str(owner.user_id), "identifier": OWNER_EMAIL, "password": owner_password},
            "learner": {"user_id": str(learner_id), "identifier": LEARNER_USERNAME, "password": learner_password},
        }

    async def _owner(self, password: str) -> Principal:
        auth = self._platform.auth.service
        try:
            owner = await auth.register_organization(
                org_name="Groupe Scolaire Bwenge", name="Demo Owner", email=OWNER_EMAIL, password=password
            )
        except EmailTaken:
            owner = (await auth.log_in(OWNER_EMAIL, password)).user
        return member(caller_of(owner))

    async def _learner(self, owner: Principal, password: str) -> UUID:
        auth = self._platform.auth.service
        try:
            learner = await auth.create_member(
                owner.org_id, name="Demo Learner", role=Role.USER, username=LEARNER_USERNAME, password=password
            )
        except UsernameTaken:
            learner = (await auth.log_in(LEARNER_USERNAME, password)).user
        return learner.id

    async def _persona(self, owner: Principal) -> UUID:
        personas = self._platform.personas.service
        async with self._platform.resources.database.unit_of_work(owner.org_id) as session:
            for persona in await personas.list_page(session, owner, PageRequest(limit=100, after=None)):
                if persona.name == PERSONA["name"]:
                    return persona.id
            return (await personas.create(session, owner, PersonaBody.model_validate(PERSONA))).id

    async def _lesson(self, owner: Principal, persona_id: UUID) -> UUID:
        """Upload the lesson as any other document, and wait until it can be asked about."""
        sources = self._platform.knowledge.sources
        source_id = await self._upload_lesson(owner, persona_id)
        while True:
            source = await sources.progress(source_id, org_id=owner.org_id)
            if source.status == "ready":
                return source.id
            if source.status == "failed":
                raise LessonFailed(f"the lesson could not be read: {source.error_code}")
            await asyncio.sleep(POLL_SECONDS)

    async def _upload_lesson(self, owner: Principal, persona_id: UUID) -> UUID:
        """The source's id: the one of an earlier start, unless it failed then."""
        sources = self._platform.knowledge.sources
        with as_file(files("bwenge.apps") / "demo" / "lesson.pdf") as path:
            content = path.read_bytes()
            received = ReceivedFile(path, path.name, len(content), hashlib.sha256(content).hexdigest())
            upload = await sources.upload(owner, persona_id, received, title=LESSON_TITLE)
            if upload.duplicate and upload.source.status == "failed":
                async with self._platform.resources.database.unit_of_work(owner.org_id) as session:
                    await sources.delete(session, owner, upload.source.id)
                upload = await sources.upload(owner, persona_id, received, title=LESSON_TITLE)
        return upload.source.id


def _read(path: Path) -> dict[str, Any] | None:
    """The file's content; None where there is none that can be read, so that it is made again."""
    try:
        content: Any = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError:
        _log.warning("demo_file_unreadable", path=str(path))
        return None
    return content if isinstance(content, dict) else None


def _write_private(path: Path, content: Mapping[str, Any]) -> None:
    """Whole or not at all, and readable by its owner only: the file holds passwords."""
    draft = path.with_suffix(".tmp")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        json.dump(content, file, indent=2)
    draft.replace(path)
