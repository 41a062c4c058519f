"""Erasing an account: one transaction that looks whether it may go, and takes away all that tells of its person.

Rows are locked in one order. The user's comes first, FOR NO KEY UPDATE: whoever only refers to the user (a sale that
settles books for its seller while it holds its products' rows) does not wait, while whoever adds a row of theirs does,
and is refused (see migration 0023). Then reviews, products, streams, gear, cloud files and reports, each by their ids,
as others take them; then tags, by name. Orders and what hangs on them are never locked: whatever would make new money
of a seller's waits at the product's row, and whatever would of a buyer's at the user's. The row of the numbers of their
notifications is last, as it is for those who tell them something.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Final
from uuid import UUID

from veza.domain.accounts import Credentials, Role
from veza.domain.audit import By
from veza.domain.erasure import OF_FILES, Erasure, Gone, Kept, Obstacle, check_may_erase, empty_account
from veza.domain.errors import Unauthenticated, Unavailable
from veza.domain.ids import NewId
from veza.store import audit, notifications
from veza.store.admins import IS_LAST_ADMIN, hold_admins
from veza.store.bridge import Database, Queries, Transaction
from veza.store.invoice_backlog import write_documents

STATEMENT_SECONDS: Final = 20.0  # somebody's thousands of rows with all that hangs on them; one of it waits for locks
SECONDS: Final = 45.0
DOCUMENTS_AT_ONCE: Final = 500  # a transaction of some tenths of a second

# -- what stands in the way --------------------------------------------------------------------------------------------

BOUGHT: Final = "(SELECT id FROM orders WHERE buyer_id = $1)"
SOLD: Final = "(SELECT order_id FROM order_items WHERE seller_id = $1)"

UNDECIDED: Final = "status IN ('requested', 'pending')"
THEIRS: Final = "seller_id = $1 AND status"

# What went back to a buyer of a payment that could not be honoured, and did not arrive, is still theirs.
NOT_GIVEN_BACK: Final = """
origin = 'platform' AND status = 'failed' AND NOT EXISTS (
    SELECT FROM refunds again
    WHERE again.order_id = r.order_id AND again.origin = 'platform' AND again.status <> 'failed'
)
"""

COUNTS: Final[Mapping[Obstacle, str]] = {
    Obstacle.LAST_ADMIN: IS_LAST_ADMIN,
    Obstacle.ORDERS_PENDING: "orders WHERE buyer_id = $1 AND status = 'pending'",
    Obstacle.SALES_PENDING: f"orders WHERE id IN {SOLD} AND status = 'pending'",
    # Captured money that its order could not take as it is, and that an operator was told of.
    Obstacle.PAYMENTS_UNCLEAR: "orders WHERE buyer_id = $1 AND status <> 'pending' AND paid_at IS NULL"
    " AND payment_note IS NOT NULL AND sync_due_at IS NOT NULL",
    Obstacle.REFUNDS_AWAITED: f"refunds r WHERE order_id IN {BOUGHT} AND ({UNDECIDED} OR {NOT_GIVEN_BACK})",
    Obstacle.REFUNDS_OPEN: f"""refunds r WHERE order_id IN {SOLD} AND {UNDECIDED} AND EXISTS (
        SELECT FROM refund_items part JOIN order_items i ON i.id = part.order_item_id
        WHERE part.refund_id = r.id AND i.seller_id = $1
    )""",
    Obstacle.DISPUTES_OPEN: f"disputes WHERE (order_id IN {BOUGHT} OR order_id IN {SOLD})"
    " AND (state IN ('unknown', 'open') OR due_at IS NOT NULL)",
    Obstacle.PAYOUTS_DUE: f"transfers WHERE {THEIRS} IN ('pending', 'processing', 'failed')"
    " AND (status <> 'failed' OR next_retry_at IS NOT NULL)",
    Obstacle.PAYOUTS_FAILED: f"transfers WHERE {THEIRS} = 'failed' AND next_retry_at IS NULL",
    Obstacle.PAYOUTS_HELD: f"transfers WHERE {THEIRS} = 'held'",
    Obstacle.RECOVERY_OPEN: f"refund_shares WHERE {THEIRS} IN ('open', 'waiting', 'reversing')",
    Obstacle.MONEY_OWED: f"refund_shares WHERE {THEIRS} = 'owed'",
    # All of the above is booked. This is for what none of it knows of.
    Obstacle.BALANCE_OPEN: """(
        SELECT FROM ledger_accounts a JOIN entries ON account_id = a.id WHERE owner = $1
        GROUP BY a.id HAVING sum(amount_cents) <> 0
    ) AS unbalanced""",
}
COUNT: Final = "SELECT " + ", ".join(f"(SELECT count(*) FROM {what}) AS {name}" for name, what in COUNTS.items())

# -- what goes ---------------------------------------------------------------------------------------------------------

HOLD: Final = "SELECT password_hash, role, erased_at FROM users WHERE id = $1 FOR NO KEY UPDATE"

OWN_PRODUCTS: Final = "(SELECT id FROM products WHERE seller_id = $1)"

LOCKS: Final = (
    f"SELECT FROM reviews WHERE buyer_id = $1 OR product_id IN {OWN_PRODUCTS} ORDER BY id FOR UPDATE",
    "SELECT FROM products WHERE seller_id = $1 ORDER BY id FOR UPDATE",
    "SELECT FROM streams WHERE owner_id = $1 ORDER BY id FOR UPDATE",
    "SELECT FROM gear WHERE owner_id = $1 ORDER BY id FOR UPDATE",
    "SELECT FROM cloud_files WHERE owner_id = $1 ORDER BY id FOR UPDATE",
    "SELECT FROM reports WHERE reporter_id = $1 OR owner_id = $1 ORDER BY id FOR UPDATE",
    # Several statements change the use of tags below, each of its own: so all are taken beforehand, as if by one.
    """SELECT FROM tags WHERE tag IN (
        SELECT unnest(tags) FROM products WHERE seller_id = $1 AND status = 'published'
        UNION SELECT unnest(tags) FROM streams WHERE owner_id = $1 AND title <> ''
    ) ORDER BY tag FOR UPDATE""",
)

# Somebody bought it and was not given all of their money back: they keep it.
OWNED: Final = """EXISTS (
    SELECT FROM order_items i JOIN orders o ON o.id = i.order_id
    WHERE i.product_id = p.id AND NOT i.gone AND o.paid_at IS NOT NULL AND o.status <> 'refunded'
)"""

# In this order: what hangs on other rows goes first, so that it is counted.
TAKEN: Final[Mapping[Gone, str]] = {
    Gone.COMMENTS: "UPDATE reviews SET comment = '' WHERE buyer_id = $1 AND comment <> ''",
    Gone.RESPONSES: f"""
        UPDATE reviews SET response = NULL, responded_at = NULL
        WHERE product_id IN {OWN_PRODUCTS} AND response IS NOT NULL
    """,
    Gone.PRODUCTS: """
        DELETE FROM products p WHERE seller_id = $1
        AND NOT EXISTS (SELECT FROM order_items i WHERE i.product_id = p.id)
    """,
    Gone.DELIVERABLES: f"""
        DELETE FROM product_files f USING products p WHERE p.id = f.product_id AND p.seller_id = $1 AND NOT {OWNED}
    """,
    Gone.TEXTS: f"""
        UPDATE products p SET description = '', tags = '{{}}', words = '', cover_key = NULL, cover_type = NULL
        WHERE seller_id = $1 AND NOT {OWNED}
    """,
    Gone.PREVIEWS: """
        UPDATE products SET preview_key = NULL, preview_type = NULL WHERE seller_id = $1 AND preview_key IS NOT NULL
    """,
    Gone.BROADCASTS: "DELETE FROM stream_sessions s USING streams t WHERE t.id = s.stream_id AND t.owner_id = $1",
    Gone.STREAMS: "DELETE FROM streams WHERE owner_id = $1",
    Gone.DOCUMENTS: "DELETE FROM gear_documents d USING gear g WHERE g.id = d.gear_id AND g.owner_id = $1",
    Gone.REPAIRS: "DELETE FROM gear_repairs r USING gear g WHERE g.id = r.gear_id AND g.owner_id = $1",
    Gone.GEAR: "DELETE FROM gear WHERE owner_id = $1",
    Gone.SHARES: "DELETE FROM cloud_shares s USING cloud_files f WHERE f.id = s.file_id AND f.owner_id = $1",
    Gone.VERSIONS: "DELETE FROM cloud_versions v USING cloud_files f WHERE f.id = v.file_id AND f.owner_id = $1",
    Gone.FILES: "DELETE FROM cloud_files WHERE owner_id = $1",
    # A reason that stands on a credit note stays with it; one of a refund that came to nothing is but theirs.
    Gone.REMARKS: f"""
        UPDATE refunds SET
            details = CASE WHEN requested_by = $1 THEN '' ELSE details END,
            reason = CASE WHEN requested_by = $1 AND credit_note_number IS NULL THEN '' ELSE reason END,
            decision_reason = CASE WHEN decided_by = $1 THEN '' ELSE decision_reason END
        WHERE (order_id IN {BOUGHT} OR order_id IN {SOLD}) AND (
            requested_by = $1 AND (details <> '' OR credit_note_number IS NULL AND reason <> '')
            OR decided_by = $1 AND decision_reason <> ''
        )
    """,
    # What others are reported for is still looked into: of nobody, and without their words.
    Gone.REPORTS: "UPDATE reports SET reporter_id = NULL, reason = '' WHERE reporter_id = $1",
    Gone.REPORTED: "DELETE FROM reports WHERE owner_id = $1",
    Gone.EXPORTS: "DELETE FROM exports WHERE user_id = $1",
    Gone.KEYS: "DELETE FROM idempotency_keys WHERE user_id = $1",
    Gone.TICKETS: "DELETE FROM stream_tickets WHERE user_id = $1",
    Gone.SESSIONS: "DELETE FROM sessions WHERE user_id = $1",
}

ARCHIVE: Final = (
    "UPDATE products SET status = 'archived', updated_at = $2 WHERE seller_id = $1 AND status <> 'archived'"
)

EMPTY: Final = """
UPDATE users SET username = $2, email = $3, password_hash = $4, role = $5, banned_until = NULL, banned_at = NULL,
    ban_reason = '', updated_at = $6, erased_at = $6, do_not_sell = false, do_not_sell_source = NULL,
    do_not_sell_at = NULL
WHERE id = $1
"""

# -- what stays --------------------------------------------------------------------------------------------------------

# Every table that refers to users and keeps rows of the erased: what its rows are told as. What refers to one of these
# (refund_items to refunds) goes with it.
KEPT_IN: Final[Mapping[str, Kept]] = {
    "orders": Kept.ORDERS,
    "order_items": Kept.SALES,
    "earnings": Kept.SALES,
    "refunds": Kept.REFUNDS,
    "refund_shares": Kept.REFUNDS,
    "transfers": Kept.PAYOUTS,
    "ledger_accounts": Kept.PAYOUTS,
    "connect_accounts": Kept.PAYOUT_ACCOUNT,
    "downloads": Kept.DOWNLOADS,
    "products": Kept.PRODUCTS,
    "reviews": Kept.RATINGS,
    "notification_numbers": Kept.ACCOUNT,  # closed, and at nought
}

HAS: Final[Mapping[Kept, str]] = {
    Kept.ACCOUNT: "SELECT",
    Kept.ORDERS: "SELECT FROM orders WHERE buyer_id = $1",
    Kept.SALES: "SELECT FROM order_items WHERE seller_id = $1",
    Kept.INVOICES: f"SELECT FROM orders WHERE (id IN {BOUGHT} OR id IN {SOLD}) AND invoice_number IS NOT NULL",
    Kept.REFUNDS: f"SELECT FROM refunds WHERE order_id IN {BOUGHT} OR order_id IN {SOLD}",
    Kept.DISPUTES: f"SELECT FROM disputes WHERE order_id IN {BOUGHT} OR order_id IN {SOLD}",
    Kept.PAYOUTS: "SELECT FROM transfers WHERE seller_id = $1",
    Kept.PAYOUT_ACCOUNT: "SELECT FROM connect_accounts WHERE user_id = $1",
    Kept.DOWNLOADS: f"SELECT FROM downloads WHERE order_id IN {BOUGHT}",
    Kept.PRODUCTS: "SELECT FROM products WHERE seller_id = $1",
    Kept.RATINGS: "SELECT FROM reviews WHERE buyer_id = $1",
    Kept.AUDIT: "SELECT",
}
WHAT_STAYS: Final = "SELECT " + ", ".join(f'EXISTS ({sql}) AS "{kept}"' for kept, sql in HAS.items())


class Erasures:
    def __init__(self, db: Database, new_id: NewId) -> None:
        self._db = db
        self._new_id = new_id

    async def check(self, user_id: UUID) -> None:
        """Raises Conflict for an account that may not be erased yet; whether it may is looked at again as it is."""
        async with self._db.snapshot() as moment:
            counted = await _count(moment, user_id)
        check_may_erase(counted)

    async def write_documents(self, user_id: UUID) -> int:
        """Write down the invoices and credit notes that are to name a user and that nobody asked for; how many.

        May take its time, between whose transactions it can be cancelled: what is written stays written.
        """
        written = 0
        while True:
            async with self._db.transaction() as tx:
                batch = await write_documents(tx, user_id, DOCUMENTS_AT_ONCE)
            written += batch
            if batch < DOCUMENTS_AT_ONCE:
                return written

    async def erase(self, verified: Credentials, no_password: str, *, by: By, now: datetime) -> Erasure | None:
        """Erase the account of a verified password; ``no_password`` is kept in place of its hash.

        Null, and nothing is done, if the password has changed since it was verified. Raises Conflict (it may not go
        yet), Unauthenticated (it is gone), Unavailable (its invoices are still being written).
        """
        user = verified.user
        async with self._db.transaction(statement_seconds=STATEMENT_SECONDS, seconds=SECONDS) as tx:
            row = await tx.fetchrow(HOLD, user.id)
            if row is None or row["erased_at"] is not None:
                raise Unauthenticated("This session is over; sign in again.", code="session_over")
            if row["password_hash"] != verified.password_hash:
                return None
            if row["role"] == Role.ADMIN:
                await hold_admins(tx)
            for lock in LOCKS:
                await tx.execute(lock, user.id)
            check_may_erase(await _count(tx, user.id))
            if await write_documents(tx, user.id, DOCUMENTS_AT_ONCE) == DOCUMENTS_AT_ONCE:
                raise Unavailable("Your invoices are still being written down; try again.")
            gone = await _take_away(tx, user.id, now)
            empty = empty_account(user, now)
            await tx.execute(EMPTY, user.id, empty.username, empty.email, no_password, empty.role, now)
            told = {each.name.lower(): many for each, many in gone.items() if many}
            await audit.write(tx, self._new_id(), by, "account_erased", f"users/{user.id}", told)
            return Erasure(gone, await _what_stays(tx, user.id, gone))


async def _count(queries: Queries, user_id: UUID) -> dict[Obstacle, int]:
    [row] = await queries.fetch(COUNT, user_id)
    return {each: row[each] for each in COUNTS}


async def _take_away(tx: Transaction, user_id: UUID, now: datetime) -> dict[Gone, int]:
    gone = {Gone.IDENTITY: 1}
    for what, sql in TAKEN.items():
        gone[what] = int((await tx.execute(sql, user_id)).rpartition(" ")[2])
    await tx.execute(ARCHIVE, user_id, now)
    gone[Gone.NOTIFICATIONS] = await notifications.close(tx, user_id)
    return gone


async def _what_stays(tx: Transaction, user_id: UUID, gone: Mapping[Gone, int]) -> tuple[Kept, ...]:
    [row] = await tx.fetch(WHAT_STAYS, user_id)
    stays = {**dict(row), Kept.BYTES: any(gone[each] for each in OF_FILES)}
    return tuple(each for each in Kept if stays[each])
