from dataclasses import dataclass

from fastapi import APIRouter

from bwenge.auth.contract import Classes, Members
from bwenge.kit.db import Database
from bwenge.persona.routes import router
from bwenge.persona.service import PersonaService


@dataclass(frozen=True, slots=True)
class PersonaFeature:
    """The routes ask the application for `service` (`kit.http.dependencies.provide`)."""

    router: APIRouter
    service: PersonaService


def build(database: Database, *, members: Members, classes: Classes) -> PersonaFeature:
    """Personas themselves. Knowledge is wired with them, and what answers for them with knowledge."""
    return PersonaFeature(router=router, service=PersonaService(database, members=members, classes=classes))
