"""Password hashes: Argon2id (RFC 9106), worked out in threads, a few at a time."""

from __future__ import annotations

import unicodedata
from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum, auto
from secrets import token_bytes
from typing import Final, TypeVar

import trio
from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from veza.domain.errors import Unavailable

T = TypeVar("T")

AT_ONCE: Final = 2  # cores that password work may take from the rest, and times 19 MiB what it may take of memory
WAITING: Final = 64  # at some 30 ms each and two at a time, a second's wait: the longest that is worth it

LONGEST: Final = 512
"""Characters of a password that is looked at. Nobody was ever let choose so long a one; and composing marks in disorder
takes the square of how many there are, in which the interpreter does nothing else: ten seconds for forty thousand."""


def recommended() -> PasswordHasher:
    """OWASP's parameters for Argon2id: 19 MiB, two passes, one lane.

    Its stronger relatives in RFC 9106 take eight times the CPU, which on a small machine hands a login flood the house.
    """
    return PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)


class Verdict(Enum):
    WRONG = auto()
    RIGHT = auto()
    STALE = auto()
    """Right, and hashed with other parameters than today's."""


@dataclass(frozen=True)
class Load:
    """How busy the hashing is."""

    working: float
    waiting: int


@dataclass
class Passwords:
    """Hashes and verifies passwords off the event loop.

    A thread that has begun is not left behind by a cancel: its caller goes on, or stops, once it is done. Raises
    Unavailable when more than ``waiting`` wait already.
    """

    hasher: PasswordHasher = field(default_factory=recommended)
    at_once: int = AT_ONCE
    waiting: int = WAITING

    def __post_init__(self) -> None:
        self._limiter = trio.CapacityLimiter(self.at_once)
        self._nobodys = self.hash_of_nothing()

    @property
    def load(self) -> Load:
        told = self._limiter.statistics()
        return Load(told.borrowed_tokens, told.tasks_waiting)

    def hash_of_nothing(self) -> str:
        """A hash to keep for who has no password: any is wrong, after just as much work."""
        return _hash_of_nothing(self.hasher)

    async def hash(self, password: str) -> str:
        """The hash to keep, its parameters and salt included."""
        return await self._in_thread(lambda: self.hasher.hash(_prepared(password)))

    async def verify(self, password: str, kept: str | None) -> Verdict:
        """Whether the password is the one hashed. Without a hash it is wrong, after just as much work: how long an
        answer takes does not tell who has an account. So is one that is too long to be anybody's."""
        if len(password) > LONGEST:
            password, kept = "", None
        return await self._in_thread(lambda: self._verify(password, kept or self._nobodys))

    def _verify(self, password: str, kept: str) -> Verdict:
        try:
            self.hasher.verify(kept, _prepared(password))
            return Verdict.STALE if self.hasher.check_needs_rehash(kept) else Verdict.RIGHT
        except (VerificationError, InvalidHashError):
            return Verdict.WRONG

    async def _in_thread(self, work: Callable[[], T]) -> T:
        if self._limiter.statistics().tasks_waiting >= self.waiting:
            raise Unavailable("Too many people are signing in; try again.", code="overloaded")
        return await trio.to_thread.run_sync(work, limiter=self._limiter)


def _prepared(password: str) -> str:
    """Composed characters: keyboards differ in how they write an é (RFC 8265, section 4.2.2)."""
    return unicodedata.normalize("NFC", password)


def _hash_of_nothing(hasher: PasswordHasher) -> str:
    """A hash as ``hasher`` writes them, of no password at all."""
    salt, digest = (b64encode(token_bytes(size)).decode().rstrip("=") for size in (hasher.salt_len, hasher.hash_len))
    return f"$argon2id$v=19$m={hasher.memory_cost},t={hasher.time_cost},p={hasher.parallelism}${salt}${digest}"
