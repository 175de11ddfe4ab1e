"""The use cases of joining an organisation and of belonging to it, wired."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from fastapi import APIRouter

from bwenge.auth import invitation_routes, join_link_routes, member_routes, organization_routes
from bwenge.auth.contract import AuditLog, MemberRemoved, NoPersonas, PersonaDirectory, SeatPolicy, UnlimitedSeats
from bwenge.auth.invitations import Invitations
from bwenge.auth.join_links import JoinLinks
from bwenge.auth.joining import Joining
from bwenge.auth.member_import import MemberImport
from bwenge.auth.memberships import Memberships
from bwenge.auth.organizations import Organizations
from bwenge.auth.passwords import Passwords
from bwenge.auth.refresh_tokens import RefreshTokens
from bwenge.auth.seats import Seats
from bwenge.auth.service import AuthService
from bwenge.auth.tokens import Clock
from bwenge.kit.db import Database
from bwenge.kit.mail import Mailer, NoMailer

ROUTERS: Final[tuple[APIRouter, ...]] = (
    organization_routes.router,
    invitation_routes.router,
    join_link_routes.router,
    member_routes.router,
)


@dataclass(frozen=True, slots=True)
class Neighbours:
    """What the feature asks of the rest of the platform.

    Attributes:
        seats: Asked in transactions of a tenant and of the platform.
        public_url: Where people reach the platform, for the links that they are sent.
    """

    seats: SeatPolicy = field(default_factory=UnlimitedSeats)
    mailer: Mailer = field(default_factory=NoMailer)
    personas: PersonaDirectory = field(default_factory=NoPersonas)
    member_removed: Sequence[MemberRemoved] = ()


def build(
    database: Database,
    neighbours: Neighbours,
    *,
    members: AuthService,
    passwords: Passwords,
    refresh_tokens: RefreshTokens,
    audit: AuditLog,
    public_url: str,
    clock: Clock,
) -> tuple[object, ...]:
    """What the routes in `ROUTERS` ask for, and registration by a token."""
    seats = Seats(neighbours.seats, clock=clock)
    return (
        Organizations(audit=audit),
        Invitations(
            database,
            members=members,
            seats=seats,
            audit=audit,
            mailer=neighbours.mailer,
            public_url=public_url,
            clock=clock,
        ),
        JoinLinks(members=members, audit=audit, public_url=public_url, clock=clock),
        Joining(
            database,
            refresh_tokens=refresh_tokens,
            members=members,
            seats=seats,
            audit=audit,
            clock=clock,
        ),
        Memberships(
            database, members=members, seats=seats, audit=audit, removed=neighbours.member_removed, clock=clock
        ),
        MemberImport(database, passwords=passwords, members=members, seats=seats, audit=audit, clock=clock),
    )
