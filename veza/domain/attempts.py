"""Attempts: asking the payout provider under an idempotency key, until it is clear what came of it.

A transfer is so asked for, and the reversal of one. An attempt is one step, ``Call`` or ``Look``, and ends in an
outcome, from which ``after_try`` decides. Nothing here waits, reads a clock or rolls dice.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Protocol

from veza.domain.payouts import Claim, HoldReason

KEY_LIFETIME = timedelta(hours=23)
# Stripe forgets an idempotency key no sooner than after 24 h (docs.stripe.com/api/idempotent_requests); an hour is
# left for clocks that disagree. An older key proves nothing, so what exists is listed before it is used again.

MAX_DELAY = timedelta(hours=6)  # four tries a day for what is down that long; an operator is told meanwhile


class Tried(Protocol):
    """What is asked for under an idempotency key, with the story of that key: a transfer, or a reversal of one."""

    @property
    def attempts(self) -> int: ...
    @property
    def key_used_at(self) -> datetime | None: ...
    @property
    def doubtful(self) -> bool: ...
    @property
    def absent_since(self) -> datetime | None: ...


@dataclass(frozen=True)
class RetryPolicy:
    """How long to wait between tries, and when to give up.

    Without ``automatic`` nothing that failed is tried again by itself: it waits for an admin, as if given up. First
    tries, and what an event from the provider releases, go on.
    """

    automatic: bool = True
    base: timedelta = timedelta(seconds=15)
    max_attempts: int = 12
    funds_probe: timedelta = timedelta(seconds=3600)
    ambiguity: timedelta = timedelta(seconds=600)


# -- what an attempt does ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Call:
    """Ask the provider for the transfer, under its idempotency key."""


@dataclass(frozen=True)
class Look:
    """List what the provider has of this transfer before asking for anything."""


@dataclass(frozen=True)
class GiveUp:
    """It has been in hand too often: not even try."""


Step = Call | Look | GiveUp


def next_step(tried: Tried, now: datetime, policy: RetryPolicy) -> Step:
    """What to do with a transfer, or a reversal, just claimed.

    One that was in hand more often than it may be tried is given up without being touched: its worker crashed on it,
    and would crash again.
    """
    if tried.attempts > policy.max_attempts:
        return GiveUp()
    if tried.doubtful or (tried.key_used_at is not None and now - tried.key_used_at >= KEY_LIFETIME):
        return Look()
    return Call()


# -- what came of it ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Paid:
    """The provider has the transfer, as we asked for it: just made, replayed, or found by a look."""

    external_ref: str


@dataclass(frozen=True)
class Unclear:
    """No answer, or one that says to ask again: the same key asks the same question."""

    code: str
    message: str


@dataclass(frozen=True)
class StoredError:
    """What the provider stored under our key is no answer: a fault it replays, or a request unlike ours.

    Whether money moved before it, nobody says; asking again under this key will tell no more.
    """

    code: str
    message: str


@dataclass(frozen=True)
class Absent:
    """A look found no such transfer."""


@dataclass(frozen=True)
class Mismatch:
    """A look found a transfer of that name with another amount, currency or destination."""

    external_ref: str


@dataclass(frozen=True)
class NoFunds:
    """The platform's balance does not cover it yet. ``stored``: as for ``Refused``."""

    message: str
    stored: bool = False


@dataclass(frozen=True)
class NotOnboarded:
    """The seller has no account there, or one that cannot take transfers yet. ``stored``: as for ``Refused``."""

    message: str
    stored: bool = False


@dataclass(frozen=True)
class Refused:
    """A definitive no that only a person can turn into a yes.

    ``stored``: the provider says that this is what came of the first time it was asked under our key.
    """

    code: str
    message: str
    stored: bool = False


@dataclass(frozen=True)
class Unauthorized:
    """The provider does not take our key: nothing is wrong with the transfer, and no other will fare better."""

    message: str


@dataclass(frozen=True)
class Interrupted:
    """The attempt was cut short on our side, before or in its call: a stop, a crash beside it, too short a lease."""


@dataclass(frozen=True)
class Exhausted:
    """It was in hand too often; see ``GiveUp``."""


Outcome = (
    Paid
    | Unclear
    | StoredError
    | Absent
    | Mismatch
    | NoFunds
    | NotOnboarded
    | Refused
    | Unauthorized
    | Interrupted
    | Exhausted
)


# -- what follows from it ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Done:
    """It is paid; book it."""

    external_ref: str


@dataclass(frozen=True)
class Again:
    """Nothing was learned of the transfer itself: put it back as it was, under the same key, the try uncounted."""

    at: datetime
    code: str
    message: str


@dataclass(frozen=True)
class Retry:
    """Try again at ``at``; null where retries are switched off and an admin has to ask for it.

    ``counted``: whether this try brings it nearer to being given up. ``new_key``: whether the next one asks a new
    question. ``doubtful``: whether to look before asking. ``absent_since``: when a look first found nothing.
    """

    at: datetime | None
    code: str
    message: str
    counted: bool = True
    new_key: bool = False
    doubtful: bool = False
    absent_since: datetime | None = None


@dataclass(frozen=True)
class Hold:
    """Keep it until ``why`` is lifted, or, with ``probe_at``, ask again by then.

    Being held is no failure: the try isn't counted. ``new_key``: whether the next one asks a new question; without, it
    looks first.
    """

    why: HoldReason
    message: str
    probe_at: datetime | None = None
    new_key: bool = True


@dataclass(frozen=True)
class Dead:
    """Stop trying; an admin decides.

    ``new_key``: whether the next try may ask a new question. Without, what is known and doubted of the present key is
    kept, so that the admin's try can't pay twice. ``doubtful``: it is doubted from now on.
    """

    code: str
    message: str
    new_key: bool = False
    doubtful: bool = False


Decision = Done | Again | Retry | Hold | Dead


def delay(attempts: int, policy: RetryPolicy, jitter: float) -> timedelta:
    """How long after try number ``attempts`` (from 1) the next one comes: base x 2^n, at most six hours, +-10 %.

    ``jitter`` is uniform in [0, 1): it keeps what failed together from coming back together.
    """
    plain = min(policy.base * 2 ** min(attempts - 1, 20), MAX_DELAY)
    return timedelta(seconds=plain.total_seconds() * (0.9 + 0.2 * jitter))


def after_attempt(claim: Claim, outcome: Outcome, now: datetime, policy: RetryPolicy, jitter: float) -> Decision:
    """What an attempt's outcome means for its transfer, whose ``attempts`` include it."""
    return after_try(claim.transfer, claim.fresh_key, outcome, now, policy, jitter)


def after_try(
    tried: Tried, fresh_key: bool, outcome: Outcome, now: datetime, policy: RetryPolicy, jitter: float
) -> Decision:
    """What an outcome means for what was tried.

    A definitive no proves that nothing was moved under the key only if nobody asked under it before, or if it was
    stored under it: some are said before the provider looks at the key (a destination of another account, say).
    """
    decision = _after_attempt(tried, outcome, now, policy, jitter)
    if not fresh_key:
        match outcome, decision:
            case (NoFunds(stored=False) | NotOnboarded(stored=False), Hold()):
                decision = replace(decision, new_key=False)
            case (Refused(stored=False), Dead()):
                decision = replace(decision, new_key=False, doubtful=True)
    if policy.automatic:
        return decision
    match decision:
        case Retry():
            return replace(decision, at=None)
        case Hold():
            return replace(decision, probe_at=None)
        case _:
            return decision


def _after_attempt(  # noqa: C901 - one case an outcome: the table itself
    tried: Tried, outcome: Outcome, now: datetime, policy: RetryPolicy, jitter: float
) -> Decision:
    match outcome:
        case Paid(external_ref):
            return Done(external_ref)
        case Unclear(code, message) if tried.attempts >= policy.max_attempts:
            return Dead(code, message)
        case Unclear(code, message):
            at = now + delay(tried.attempts, policy, jitter)
            return Retry(at, code, message, doubtful=tried.doubtful, absent_since=tried.absent_since)
        case StoredError(code, message):
            # Even the last try ends in certainty: looking moves no money, so it is not what the limit is about.
            return Retry(now, code, message, counted=tried.attempts < policy.max_attempts, doubtful=True)
        case Absent():
            return _after_absent(tried, now, policy)
        case Mismatch(external_ref):
            return Dead("transfer_mismatch", f"{external_ref} exists with another amount, currency or destination")
        case NoFunds(message):
            return Hold(HoldReason.AWAITING_FUNDS, message, probe_at=now + policy.funds_probe)
        case NotOnboarded(message):
            return Hold(HoldReason.NOT_ONBOARDED, message)
        case Refused(code, message):
            return Dead(code, message, new_key=True)
        case Unauthorized(message):
            return Again(now + policy.base, "unauthorized", message)
        case Interrupted():
            return Again(now, "interrupted", "the attempt was cut short; it will ask again under the same key")
        case Exhausted():
            return Dead("exhausted", f"given up after {policy.max_attempts} tries")


def _after_absent(tried: Tried, now: datetime, policy: RetryPolicy) -> Decision:
    """One look may come too early for what is still being made; the second, ``ambiguity`` later, is believed."""
    first = tried.absent_since
    if first is None or now - first < policy.ambiguity:
        since = first or now
        return Retry(
            since + policy.ambiguity,
            "outcome_unknown",
            "the provider lists no such transfer; looking again before a new try",
            counted=False,
            doubtful=True,
            absent_since=since,
        )
    if tried.attempts >= policy.max_attempts:
        return Dead("exhausted", f"given up after {policy.max_attempts} tries; no such transfer exists", new_key=True)
    return Retry(now, "outcome_unknown", "no such transfer exists; trying with a new key", counted=False, new_key=True)
