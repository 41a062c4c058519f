"""People to test with: users, sessions and hashes made from a seed."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from random import Random
from uuid import UUID

import trio
from argon2 import PasswordHasher

from veza.domain.accounts import Role, Session, User, begin_session
from veza.domain.ids import IdMint
from veza.store.bridge import Database

NOON = datetime(2026, 2, 23, 12, tzinfo=UTC)


def cheap_hasher(time_cost: int = 1) -> PasswordHasher:
    """Argon2id with as little work as it takes: for tests that are not about the work."""
    return PasswordHasher(time_cost=time_cost, memory_cost=8, parallelism=1)


async def until_blocked(db: Database) -> None:
    """Until somebody waits for a row that another transaction holds."""
    blocked = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    while not await db.fetchval(blocked):
        await trio.lowlevel.checkpoint()


@dataclass
class MovingClock:
    """A clock that stands until it is moved."""

    now: datetime = NOON

    def __call__(self) -> datetime:
        return self.now

    def move(self, by: timedelta) -> None:
        self.now += by


@dataclass
class People:
    """Makes users and their sessions; each in its test only."""

    clock: MovingClock = field(default_factory=MovingClock)

    def __post_init__(self) -> None:
        self.new_id = IdMint(self.clock, Random(3))

    def user(self, name: str, *, email: str | None = None, role: Role = Role.USER) -> User:
        now = self.clock()
        return User(self.new_id(), name, email or f"{name}@example.com".casefold(), role, now, now)

    def session(self, user_id: UUID) -> Session:
        return begin_session(user_id, self.new_id, self.clock(), user_agent="curl/8", address="192.0.2.7")
