"""Guessing: how many wrong passwords are heard of whom, so that no account can be guessed at and none be locked.

A wrong one counts against the account at that address, against the address, and against the account as strangers try
it. Who is known to the account (they have a session on it, or had one and signed out) counts by their device or their
address alone: a stranger can use up what strangers have, never what its owner has (OWASP, "Slow Down Online Guessing
Attacks with Device Cookies"). A right password counts against nobody.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from hashlib import sha256
from typing import Final
from uuid import UUID

from veza.domain.errors import TooMany
from veza.domain.limits import Claim, Limit, Verdict, site_of, whole_seconds

PAIR: Final = Limit("wrong-here", 10, 900)
"""Of one account at one address: nobody mistypes theirs oftener in a quarter of an hour."""

SITE: Final = Limit("wrong-site", 100, 900)
"""Of one address at all accounts: an office on the day that everyone has a new password."""

ACCOUNT: Final = Limit("wrong-account", 50, 3600)
"""Of one account, by all strangers together: NIST SP 800-63B-3 (section 3.2.2) allows a hundred in all."""

DEVICE: Final = Limit("wrong-device", 10, 900)
"""Of one account by one device that it knows."""

AGAIN: Final = Limit("wrong-again", 10, 900)
"""Of the password that a signed-in user is asked for again, in one session."""

LINK: Final = Limit("wrong-link", 60, 60)
"""Of links to files, by address. Nobody guesses 256 bits; this keeps them from trying."""

REMEMBERED: Final = timedelta(days=30)
"""How long somebody who signed out is known by where they were: as long as a session may last."""


class TooManyAttempts(TooMany):
    """Too many that were wrong."""

    code = "too_many_attempts"


@dataclass(frozen=True)
class Attempt:
    """Somebody says that they are an account's owner. ``device`` is the session that they show to have had, if any."""

    account: str
    address: str | None
    device: UUID | None = None

    @property
    def stranger(self) -> tuple[Claim, ...]:
        """What it counts on while nothing is known of who it is."""
        return (
            Claim(PAIR, f"{self._account}@{self._site}"),
            Claim(SITE, self._site),
            Claim(ACCOUNT, self._account),
        )

    def known(self, *, device: bool) -> tuple[Claim, ...]:
        """What it counts on for who is known by their device, or else by their address."""
        by = f"{self._account}@{self.device}" if device else f"{self._account}@{self._site}"
        return (Claim(DEVICE if device else PAIR, by),)

    @property
    def _site(self) -> str:
        return site_of(self.address)

    @property
    def _account(self) -> str:
        """A hash: what is counted by need not be read, and an address that somebody sends may be long."""
        return sha256(self.account.casefold().encode()).hexdigest()[:32]


@dataclass(frozen=True)
class Known:
    """A device that an account knows, and where it was last begun."""

    session_id: UUID
    address: str | None


def too_many_attempts(verdict: Verdict) -> TooManyAttempts:
    """What is told to who tried too often, whether there is such an account or not."""
    wait = max(whole_seconds(verdict.more_in), 1)
    if verdict.limit in (PAIR, SITE, ACCOUNT, DEVICE):
        sentence = "There were too many attempts to sign in; wait, or use a device that you are signed in on."
    else:
        sentence = "That was wrong too often; wait before you try again."
    return TooManyAttempts(sentence, retry_after=wait)
