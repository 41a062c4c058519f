"""Transfers' rows: the queue of payouts, claimed under a lease, recorded with their journal, listed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from veza.domain.attempts import (
    Again,
    Dead,
    Decision,
    Done,
    Hold,
    Outcome,
    Retry,
)
from veza.domain.audit import By
from veza.domain.connect import REFUSED_AGAIN
from veza.domain.errors import Conflict, NotFound, Refusal
from veza.domain.flags import Flag
from veza.domain.ids import NewId
from veza.domain.payouts import (
    Claim,
    HoldReason,
    Transfer,
    TransferStatus,
    check_may_hold,
    check_may_release,
    may_retry,
)
from veza.store import audit
from veza.store.banned import BANNED
from veza.store.bridge import Database, Record, Transaction
from veza.store.flags import is_on
from veza.store.recovery import reduce

COLUMNS: Final = ", ".join(field.name for field in fields(Transfer))

# What may be taken in hand once it is due. $3: whether what failed is tried again by itself.
CLAIMABLE: Final = """
(open_refunds = 0 AND (status = 'pending' OR $3 AND (status = 'failed' OR hold_reason = 'awaiting_funds')))
"""
SWITCHED_ON: Final = is_on(Flag.PAYOUTS)
MAY_BE_PAID: Final = f"seller_id NOT IN ({BANNED})"

# The claim's own columns, for the worker and an admin alike. The account is the one that the present key was first used
# with: a key must never be used with two.
TAKE: Final = """
    status = 'processing', hold_reason = NULL, next_retry_at = NULL,
    claim_id = gen_random_uuid(), claimed_until = now() + $2,
    retry_count = retry_count + (tried_at IS NOT NULL)::int, tried_at = now(), updated_at = now(),
    destination = coalesce(t.destination, account_id),
    key_used_at = CASE WHEN coalesce(t.destination, account_id) IS NOT NULL THEN coalesce(key_used_at, now()) END
"""

INTENT: Final = """
    INSERT INTO transfer_attempts (claim_id, transfer_id, idempotency_key)
    SELECT claim_id, id, id || ':' || key_epoch FROM claimed
"""

CLAIM: Final = f"""
WITH lapsed AS (
    SELECT id FROM transfers
    WHERE claim_id IS NOT NULL AND claimed_until <= now() AND {SWITCHED_ON} AND {MAY_BE_PAID}
    ORDER BY claimed_until LIMIT $1 FOR UPDATE SKIP LOCKED
), due AS (
    SELECT id FROM transfers WHERE next_retry_at <= now() AND {CLAIMABLE} AND {SWITCHED_ON} AND {MAY_BE_PAID}
    ORDER BY next_retry_at, id LIMIT $1 - (SELECT count(*) FROM lapsed) FOR UPDATE SKIP LOCKED
), mine AS (
    SELECT id FROM lapsed UNION ALL SELECT id FROM due
), account AS (
    SELECT mine.id, account_id FROM mine JOIN transfers USING (id)
    LEFT JOIN connect_accounts ON user_id = seller_id
), claimed AS (
    UPDATE transfers AS t SET attempts = attempts + 1, {TAKE} FROM account WHERE t.id = account.id RETURNING t.*
), intent AS ({INTENT})
SELECT {COLUMNS}, claim_id, destination, now() AS claimed_at FROM claimed ORDER BY id
"""

# An admin's try begins the count anew: it was they who decided that it is worth trying.
CLAIM_ONE: Final = f"""
WITH account AS (
    SELECT id, account_id FROM transfers LEFT JOIN connect_accounts ON user_id = seller_id WHERE id = $1
), claimed AS (
    UPDATE transfers AS t SET attempts = 1, {TAKE} FROM account WHERE t.id = account.id RETURNING t.*
), intent AS ({INTENT})
SELECT {COLUMNS}, claim_id, destination, now() AS claimed_at FROM claimed
"""

# Everything that follows from an attempt, in one statement: the row, the attempt, the journal with its two entries, and
# the account that turned out unable to receive. A refund's share that waited for this is due. None of it happens unless
# the claim still stands.
RECORD: Final = f"""
WITH done AS (
    UPDATE transfers SET
        status = CASE WHEN disputed AND $3 <> 'completed' THEN 'held' ELSE $3 END,
        hold_reason = CASE WHEN disputed AND $3 <> 'completed' THEN 'disputed' ELSE $4::text END,
        next_retry_at = CASE WHEN NOT disputed OR $3 = 'completed' THEN $5::timestamptz END,
        claim_id = NULL, claimed_until = NULL, updated_at = now(),
        attempts = greatest(attempts - $6::int, 0),
        -- A claim that came to no try leaves no trace: the next may still be the first.
        retry_count = greatest(retry_count - $7::int, 0),
        tried_at = CASE WHEN $7::int = 1 AND retry_count = 0 THEN NULL ELSE tried_at END,
        key_epoch = key_epoch + $8::boolean::int,
        key_used_at = CASE WHEN NOT $8 THEN key_used_at END,
        destination = CASE WHEN NOT $8 THEN destination END,
        doubtful = CASE WHEN $8 THEN false ELSE coalesce($9::boolean, doubtful) END,
        absent_since = CASE WHEN $8 THEN NULL WHEN $9::boolean IS NULL THEN absent_since ELSE $10::timestamptz END,
        external_ref = coalesce($11, external_ref), failure_code = $12, failure_message = $13,
        completed_at = CASE WHEN $3 = 'completed' THEN now() END
    WHERE id = $1 AND claim_id = $2
    RETURNING *
), attempt AS (
    UPDATE transfer_attempts SET finished_at = now(), outcome = $14, message = $15
    FROM done WHERE transfer_attempts.claim_id = $2 AND transfer_id = done.id
), journal AS (
    INSERT INTO journals (kind, external_ref, order_id)
    SELECT 'transfer', 'stripe:' || external_ref, order_id FROM done WHERE status = 'completed'
    RETURNING id
), booked AS (
    INSERT INTO entries (journal_id, account_id, amount_cents, currency)
    SELECT journal.id, account.id, CASE account.kind WHEN 'seller' THEN 1 ELSE -1 END * (amount_cents - withheld_cents),
        done.currency
    FROM journal, done JOIN ledger_accounts AS account ON account.currency = done.currency
        AND (account.kind = 'payouts' OR (account.kind = 'seller' AND account.owner = done.seller_id))
    RETURNING id
), waited AS (
    UPDATE refund_shares AS share SET due_at = now() FROM done
    WHERE share.order_id = done.order_id AND share.seller_id = done.seller_id AND share.status = 'waiting'
), unable AS (
    UPDATE connect_accounts SET transfers_active = false, check_due_at = now() + $16, updated_at = now()
    FROM done WHERE $4 = 'not_onboarded' AND user_id = seller_id AND account_id IS NOT NULL
)
SELECT {COLUMNS}, (SELECT count(*) FROM booked) AS lines FROM done
"""

NEXT_DUE: Final = f"""
SELECT extract(epoch FROM least(
    (SELECT next_retry_at FROM transfers
     WHERE next_retry_at IS NOT NULL AND {CLAIMABLE.replace("$3", "$1")} AND {MAY_BE_PAID}
     ORDER BY next_retry_at LIMIT 1),
    (SELECT claimed_until FROM transfers WHERE claim_id IS NOT NULL AND {MAY_BE_PAID} ORDER BY claimed_until LIMIT 1)
) - now())::float8
"""

# A transfer is due no sooner than its delay after the sale, however early its seller came on board.
RELEASE: Final = """
UPDATE transfers AS t SET status = 'pending', hold_reason = NULL, updated_at = now(),
    next_retry_at = greatest(now(), t.created_at + $1)
FROM connect_accounts
WHERE status = 'held' AND hold_reason = 'not_onboarded' AND user_id = seller_id AND transfers_active
"""

# As an admin holds and releases. Nothing of what is known and doubted of the key is forgotten. Released, it is due at
# once, its tries counted anew, unless its seller has gone from board meanwhile or its payment is disputed.
HOLD: Final = """
UPDATE transfers SET status = 'held', hold_reason = 'admin', next_retry_at = NULL, updated_at = now() WHERE id = $1
"""
LET_GO: Final = """
UPDATE transfers AS t SET updated_at = now(), attempts = 0,
    status = CASE WHEN able AND NOT banned AND NOT t.disputed THEN 'pending' ELSE 'held' END,
    hold_reason = CASE WHEN t.disputed THEN 'disputed' WHEN banned THEN 'banned' WHEN NOT able THEN 'not_onboarded' END,
    next_retry_at = CASE WHEN able AND NOT banned AND NOT t.disputed THEN greatest(now(), t.created_at + $2) END
FROM (SELECT EXISTS (
    SELECT FROM transfers JOIN connect_accounts ON user_id = seller_id WHERE id = $1 AND transfers_active
) AS able, EXISTS (
    SELECT FROM transfers JOIN users ON users.id = seller_id WHERE transfers.id = $1 AND banned_until > now()
) AS banned) AS seller
WHERE t.id = $1
"""

# Whose seller is banned is not claimed, whatever it reads as: at the ban what waits is held for that, and what comes to
# wait after when it is looked at. So is what somebody had in hand when they died: its key is kept, and used again.
# What is held for another reason stays so. A ban that is over releases what it held, however it came to be over.
HOLD_BANNED: Final = """
WITH kept AS (
    SELECT t.id FROM transfers t JOIN users u ON u.id = t.seller_id
    WHERE u.banned_until > now() AND {}
      AND (t.next_retry_at IS NOT NULL AND (t.hold_reason IS NULL OR t.hold_reason = 'awaiting_funds')
           OR t.claim_id IS NOT NULL AND t.claimed_until <= now())
    ORDER BY t.id LIMIT $1 FOR UPDATE OF t SKIP LOCKED
)
UPDATE transfers SET status = 'held', hold_reason = 'banned', next_retry_at = NULL, claim_id = NULL,
    claimed_until = NULL, updated_at = now()
FROM kept WHERE transfers.id = kept.id
"""
RELEASE_UNBANNED: Final = """
WITH kept AS (
    SELECT t.id, coalesce(c.transfers_active, false) AND NOT t.disputed AS able
    FROM transfers t JOIN users u ON u.id = t.seller_id LEFT JOIN connect_accounts c ON c.user_id = t.seller_id
    WHERE t.status = 'held' AND t.hold_reason = 'banned' AND u.banned_until > now() IS NOT TRUE AND {}
    ORDER BY t.id LIMIT $1 FOR UPDATE OF t SKIP LOCKED
)
UPDATE transfers AS t SET updated_at = now(),
    status = CASE WHEN able THEN 'pending' ELSE 'held' END,
    hold_reason = CASE WHEN able THEN NULL WHEN disputed THEN 'disputed' ELSE 'not_onboarded' END,
    next_retry_at = CASE WHEN able THEN greatest(now(), created_at + $2) END
FROM kept WHERE t.id = kept.id
"""
IS_BANNED: Final = "SELECT banned_until > now() IS TRUE FROM users WHERE id = $1"
BANS_MATTER: Final = f"""
SELECT EXISTS ({BANNED}) OR EXISTS (SELECT FROM transfers WHERE status = 'held' AND hold_reason = 'banned')
"""

TOTALS: Final = """
SELECT status, count(*) AS count, sum(amount_cents)::bigint AS amount_cents,
    sum(withheld_cents)::bigint AS withheld_cents, sum(reversed_cents)::bigint AS reversed_cents
FROM transfers WHERE {} GROUP BY status
"""

# What a seller waits for: all that is on its way, when the next of it is due, and what is held, or given up until an
# admin acts. And what they owe: what was refunded of what they have, netted against what is next on its way.
WAITING: Final = """
SELECT coalesce(sum(amount_cents - withheld_cents) FILTER (WHERE stands), 0)::bigint AS held,
       coalesce(sum(amount_cents - withheld_cents) FILTER (WHERE NOT stands), 0)::bigint AS due,
       min(next_retry_at) FILTER (WHERE NOT stands) AS due_at,
       (SELECT coalesce(sum(gross_cents - fee_cents - withheld_cents - reversed_cents), 0)::bigint
        FROM refund_shares WHERE seller_id = $1 AND status = 'owed') AS owed
FROM (
    SELECT *, status = 'held' OR status = 'failed' AND next_retry_at IS NULL AS stands FROM transfers
    WHERE seller_id = $1 AND status IN ('pending', 'processing', 'failed', 'held')
) AS waiting
"""

# While paying out is switched off, what falls due is held for that; what is held for another reason stays so. Whoever
# holds has the flag's row first, so that nothing is held any more once it was switched on.
STAYS_OFF: Final = f"SELECT true FROM feature_flags WHERE name = '{Flag.PAYOUTS}' AND NOT enabled FOR SHARE"
HOLD_DUE: Final = f"""
WITH due AS (
    SELECT id FROM transfers
    WHERE next_retry_at <= now() AND hold_reason IS NULL AND {CLAIMABLE.replace("$3", "$2")}
    ORDER BY next_retry_at, id LIMIT $1 FOR UPDATE SKIP LOCKED
)
UPDATE transfers SET status = 'held', hold_reason = 'flag', next_retry_at = NULL, updated_at = now()
FROM due WHERE transfers.id = due.id
"""
HELD_BY_FLAG: Final = f"""
SELECT EXISTS (SELECT FROM transfers WHERE status = 'held' AND hold_reason = 'flag') AND {SWITCHED_ON}
"""
RELEASE_DUE: Final = f"""
WITH kept AS (
    SELECT id FROM transfers WHERE status = 'held' AND hold_reason = 'flag' AND {SWITCHED_ON}
    ORDER BY id LIMIT $1 FOR UPDATE SKIP LOCKED
)
UPDATE transfers SET updated_at = now(),
    status = CASE WHEN disputed THEN 'held' ELSE 'pending' END,
    hold_reason = CASE WHEN disputed THEN 'disputed' END,
    next_retry_at = CASE WHEN NOT disputed THEN now() END
FROM kept WHERE transfers.id = kept.id
"""

RELEASABLE: Final = """
SELECT EXISTS (SELECT FROM transfers JOIN connect_accounts ON user_id = seller_id
               WHERE status = 'held' AND hold_reason = 'not_onboarded' AND transfers_active)
"""


@dataclass(frozen=True)
class Total:
    """Of the transfers of one status: how many, and what they add up to; what of that was withheld, or came back."""

    count: int = 0
    amount_cents: int = 0
    withheld_cents: int = 0
    reversed_cents: int = 0


@dataclass(frozen=True)
class Moved:
    """How many transfers were held, and how many released."""

    held: int = 0
    released: int = 0


@dataclass(frozen=True)
class Waiting:
    """A seller's shares that are not paid yet, in minor units: ``held``, and ``due``, the next of it ``due_at``.

    ``owed`` is by them: it is taken from what they sell next.
    """

    held: int
    due: int
    due_at: datetime | None
    owed: int


@dataclass(frozen=True)
class Wanted:
    """Which transfers to list: all of what is given. ``since`` is included, ``until`` is not."""

    status: TransferStatus | None = None
    seller_id: UUID | None = None
    since: datetime | None = None
    until: datetime | None = None


class Payouts:
    """``delay`` is how long after the sale a transfer is due."""

    def __init__(self, db: Database, new_id: NewId, delay: timedelta = timedelta(0)) -> None:
        self._db = db
        self._new_id = new_id
        self._delay = delay

    # -- the queue --------------------------------------------------------------------------------------------------

    async def claim(self, limit: int, lease: timedelta, *, retries: bool) -> list[Claim]:
        """Take at most ``limit`` transfers in hand: those whose claim has lapsed, then those due, oldest first.

        Without ``retries`` only first tries are due. Whoever claims at the same time gets others. None while paying out
        is switched off.
        """
        async with self._db.transaction() as tx:
            rows = await tx.fetch(CLAIM, limit, lease, retries)
        return [_claim(row) for row in rows]

    async def claim_one(self, transfer_id: UUID, lease: timedelta, by: By) -> Claim | Refusal:
        """Take one in hand because an admin asks for it; refused if it is not failed, nor held for what may be over."""
        async with self._db.transaction() as tx:
            row = await tx.fetchrow(f"SELECT {COLUMNS} FROM transfers WHERE id = $1 FOR UPDATE", transfer_id)
            if row is None:
                return NotFound("There is no such transfer.")
            before = transfer_in(row)
            if not may_retry(before):
                return Conflict(_cannot_retry(before), code="not_retryable")
            if await tx.fetchval(IS_BANNED, before.seller_id):
                return Conflict("Its seller is banned; it is paid when that is over.", code="not_retryable")
            claimed = await tx.fetchrow(CLAIM_ONE, transfer_id, lease)
            if claimed is None:
                raise LookupError(f"transfer {transfer_id} went away under its lock")
            details = {"status": before.status, "hold_reason": before.hold_reason, "failure_code": before.failure_code}
            await audit.write(tx, self._new_id(), by, "transfer.retry", f"transfer:{transfer_id}", details)
        return _claim(claimed)

    async def record(self, claim: Claim, outcome: Outcome, decision: Decision) -> Transfer | None:
        """Write down what came of an attempt, once. Null, and nothing is changed, when the claim is no longer ours."""
        async with self._db.transaction() as tx:
            row = await tx.fetchrow(
                RECORD, claim.transfer.id, claim.id, *_changes(decision, claim), *_told(outcome), REFUSED_AGAIN
            )
            if row is not None and isinstance(decision, Done) and row["lines"] != 2:
                raise LookupError(f"an account of transfer {claim.transfer.id} is not open")
            if row is not None and row["key_used_at"] is None:
                await reduce(tx, row["order_id"], row["seller_id"], row["currency"])
                return await _find(tx, row["id"])
        return None if row is None else transfer_in(row)

    async def next_due_in(self, *, retries: bool) -> float | None:
        """Seconds until something may be claimed, by the database's clock; null when nothing waits for a moment."""
        seconds: float | None = await self._db.fetchval(NEXT_DUE, retries)
        return seconds

    async def release_onboarded(self) -> int:
        """Make due what is held for sellers who are on board by now. Answers how many.

        A sale that settles at the same moment as its seller comes on board may see them still outside, and be held
        after the release has gone by: this finds it.
        """
        if not await self._db.fetchval(RELEASABLE):
            return 0
        async with self._db.transaction() as tx:
            return _count(await tx.execute(RELEASE, self._delay))

    async def hold_switched_off(self, limit: int, *, retries: bool) -> int:
        """Hold at most ``limit`` of what is due, for the reason that paying out is switched off. Answers how many.

        None if it is on by now, whatever the caller was told.
        """
        async with self._db.transaction() as tx:
            if await tx.fetchval(STAYS_OFF) is None:
                return 0
            return _count(await tx.execute(HOLD_DUE, limit, retries))

    async def release_switched_on(self, limit: int) -> int:
        """Make at most ``limit`` due of what was so held, if paying out is on again. Answers how many."""
        if not await self._db.fetchval(HELD_BY_FLAG):
            return 0
        async with self._db.transaction() as tx:
            return _count(await tx.execute(RELEASE_DUE, limit))

    async def heed_bans(self, limit: int) -> Moved:
        """Hold at most ``limit`` of what waits for sellers who are banned, and release so much that bans held which are
        over. Answers how many each."""
        if not await self._db.fetchval(BANS_MATTER):
            return Moved()
        async with self._db.transaction() as tx:
            return Moved(await hold_banned(tx, limit), await release_unbanned(tx, limit, self._delay))

    async def hold(self, transfer_id: UUID, by: By, reason: str) -> Transfer:
        """Keep a transfer from being tried until an admin releases it. Raises NotFound, Conflict."""
        return await self._move(transfer_id, check_may_hold, by, "transfer.hold", {"reason": reason}, HOLD)

    async def let_go(self, transfer_id: UUID, by: By) -> Transfer:
        """Release what an admin holds. Raises NotFound, Conflict."""
        return await self._move(transfer_id, check_may_release, by, "transfer.release", {}, LET_GO, self._delay)

    async def _move(
        self,
        transfer_id: UUID,
        check: Callable[[Transfer], None],
        by: By,
        action: str,
        details: Mapping[str, object],
        sql: str,
        *values: object,
    ) -> Transfer:
        async with self._db.transaction() as tx:
            before = await _find(tx, transfer_id, "FOR UPDATE")
            check(before)
            await tx.execute(sql, transfer_id, *values)
            was = {"status": before.status, "hold_reason": before.hold_reason}
            await audit.write(tx, self._new_id(), by, action, f"transfer:{transfer_id}", was | dict(details))
            return await _find(tx, transfer_id)

    # -- reading ----------------------------------------------------------------------------------------------------

    async def get(self, transfer_id: UUID) -> Transfer:
        """Raises NotFound."""
        return await _find(self._db, transfer_id)

    async def totals(self, wanted: Wanted) -> dict[TransferStatus, Total]:
        """What there is of each status among those wanted, whatever status was asked for."""
        where, values = _where(replace(wanted, status=None))
        rows = await self._db.fetch(TOTALS.format(where), *values)
        sums = ("count", "amount_cents", "withheld_cents", "reversed_cents")
        found = {TransferStatus(row["status"]): Total(*(row[name] for name in sums)) for row in rows}
        return {status: found.get(status, Total()) for status in TransferStatus}

    async def waiting(self, seller_id: UUID) -> Waiting:
        """What a seller has still to get."""
        row = await self._db.fetchrow(WAITING, seller_id)
        return Waiting(0, 0, None, 0) if row is None else Waiting(**dict(row))

    async def list(self, wanted: Wanted, limit: int, offset: int) -> tuple[list[Transfer], int]:
        """A page, newest first, and how many there are in all."""
        where, values = _where(wanted)
        async with self._db.snapshot() as moment:
            total: int = await moment.fetchval(f"SELECT count(*) FROM transfers WHERE {where}", *values)
            rows = await moment.fetch(
                f"SELECT {COLUMNS} FROM transfers WHERE {where} ORDER BY created_at DESC, id DESC"
                f" LIMIT ${len(values) + 1} OFFSET ${len(values) + 2}",
                *values,
                limit,
                offset,
            )
        return [transfer_in(row) for row in rows], total


async def hold_banned(tx: Transaction, limit: int, *, of: UUID | None = None) -> int:
    """Hold at most ``limit`` of what waits to be paid to banned sellers, to one or to all."""
    if of is not None:
        return _count(await tx.execute(HOLD_BANNED.format("t.seller_id = $2"), limit, of))
    return _count(await tx.execute(HOLD_BANNED.format("true"), limit))


async def release_unbanned(tx: Transaction, limit: int, delay: timedelta, *, of: UUID | None = None) -> int:
    """Let at most ``limit`` go on that were held for bans which are over, of one seller or of all."""
    if of is not None:
        return _count(await tx.execute(RELEASE_UNBANNED.format("t.seller_id = $3"), limit, delay, of))
    return _count(await tx.execute(RELEASE_UNBANNED.format("true"), limit, delay))


async def _find(queries: Database | Transaction, transfer_id: UUID, lock: str = "") -> Transfer:
    row = await queries.fetchrow(f"SELECT {COLUMNS} FROM transfers WHERE id = $1 {lock}", transfer_id)
    if row is None:
        raise NotFound("There is no such transfer.")
    return transfer_in(row)


def _where(wanted: Wanted) -> tuple[str, Sequence[object]]:
    """Only what is asked for stands in the query, so that each kind of it gets a plan of its own."""
    conditions, values = ["true"], list[object]()
    for condition, value in (
        ("status =", None if wanted.status is None else wanted.status.value),
        ("seller_id =", wanted.seller_id),
        ("created_at >=", wanted.since),
        ("created_at <", wanted.until),
    ):
        if value is not None:
            values.append(value)
            conditions.append(f"{condition} ${len(values)}")
    return " AND ".join(conditions), values


def _changes(decision: Decision, claim: Claim) -> tuple[object, ...]:
    """$3 to $13 of RECORD: status, hold, due, attempts and tries taken back, new key, doubt (null: as it is), since
    when absent, the provider's transfer, and why not.
    """
    match decision:
        case Done(external_ref):
            return "completed", None, None, 0, 0, False, False, None, external_ref, None, None
        case Again(at, code, message):
            return "pending", None, at, 1, 1, False, None, None, None, code, message
        case Retry(at, code, message, counted, new_key, doubtful, absent_since):
            back = int(not counted)
            return "failed", None, at, back, back, new_key, doubtful, absent_since, None, code, message
        case Hold(why, message, probe_at, new_key):
            return "held", why.value, probe_at, 1, 0, new_key, not new_key, None, None, why.value, message
        case Dead(code, message, new_key, doubtful):
            return "failed", None, None, 0, 0, new_key, doubtful or None, None, None, code, message


def _told(outcome: Outcome) -> tuple[str, str]:
    """How an attempt's row tells its outcome."""
    values = [getattr(outcome, field.name) for field in fields(outcome)]
    return type(outcome).__name__, ": ".join(value for value in values if isinstance(value, str))


def _cannot_retry(transfer: Transfer) -> str:
    if transfer.open_refunds:
        return "A refund of its order is under way; when that is done, what is left of it is tried by itself."
    if transfer.hold_reason is not None:
        return f"A transfer held as {transfer.hold_reason.value} is not retried but released."
    return f"Only a failed or held transfer can be retried; this one is {transfer.status.value}."


def transfer_in(row: Record) -> Transfer:
    values = {field.name: row[field.name] for field in fields(Transfer)}
    values["status"] = TransferStatus(values["status"])
    values["hold_reason"] = None if values["hold_reason"] is None else HoldReason(values["hold_reason"])
    return Transfer(**values)


def _claim(row: Record) -> Claim:
    return Claim(row["claim_id"], transfer_in(row), row["destination"], row["claimed_at"])


def _count(tag: str) -> int:
    return int(tag.rpartition(" ")[2])
