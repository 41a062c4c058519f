"""What is held about people, table by table: what of it an export shows them, and what it does not, and why not.

Every table and every column stands here. A test compares this page with the migrated database, so that whoever adds a
column decides what it is to the person it tells of. Hashes, secrets, our own bookkeeping and what is other people's are
never shown.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

Why = str

HASH: Final = "a hash, by which a secret of yours is recognised without our knowing it"
SECRET: Final = "a secret that lets somebody in, or pays, in your place"  # noqa: S105 - says what is one
QUEUE: Final = "our own bookkeeping of work to be done; it says nothing about you"
SEARCH: Final = "the words of this row again, cut up for searching"
FOLDED: Final = "the category of this row again, as it is compared: whatever its case and accents are"
SAME: Final = "a fingerprint of what was asked, by which a repeated request is told from another of the same name"
STORAGE: Final = "where our storage keeps the bytes; the file itself is in the archive"
FOR_US: Final = "what the provider told us of our request, in words for us; it may tell of our own account"


@dataclass(frozen=True)
class Shown:
    """A table with rows about people. ``whose`` is the SQL condition under which a row ``t`` is about the person $1.

    ``title`` is what a person calls what is in it, ``about`` says that in a sentence. ``columns`` are shown, each with
    what it means, and ``withheld`` are not, each with why. ``instead`` is SQL for what is shown of a column that is not
    shown as it is.
    """

    title: str
    about: str
    whose: str
    columns: Mapping[str, str]
    withheld: Mapping[str, Why] = field(default_factory=dict)
    instead: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Withheld:
    """A table with rows about people, none of which is shown."""

    title: str
    why: Why
    columns: Sequence[str]


@dataclass(frozen=True)
class Impersonal:
    """A table that holds nothing of anybody."""

    about: str
    columns: Sequence[str]


Table = Shown | Withheld | Impersonal

OWN: Final = "t.user_id = $1"
OWNED: Final = "t.owner_id = $1"
SOLD: Final = "t.seller_id = $1"
OWN_PRODUCT: Final = "t.product_id IN (SELECT id FROM products WHERE seller_id = $1)"
OWN_GEAR: Final = "t.gear_id IN (SELECT id FROM gear WHERE owner_id = $1)"
OWN_CLOUD: Final = "t.file_id IN (SELECT id FROM cloud_files WHERE owner_id = $1)"
OWN_ACCOUNT: Final = "SELECT id FROM ledger_accounts WHERE kind = 'seller' AND owner = $1"
BOUGHT: Final = "t.order_id IN (SELECT id FROM orders WHERE buyer_id = $1)"
OWN_SHARES: Final = """SELECT s.id
    FROM earnings e JOIN refund_shares s ON s.order_id = e.order_id AND s.seller_id = e.seller_id
    WHERE e.seller_id = $1"""

# What concerns its buyer and its seller is found from either side by an index: two conditions of which one holds would
# have the server go through everybody's.
TRADED_LINES: Final = """t.id IN (
    SELECT i.id FROM orders o JOIN order_items i ON i.order_id = o.id WHERE o.buyer_id = $1
    UNION SELECT i.id FROM order_items i JOIN orders o ON o.id = i.order_id
    WHERE i.seller_id = $1 AND o.paid_at IS NOT NULL
)"""
TRADED_REFUNDS: Final = """t.id IN (
    SELECT r.id FROM orders o JOIN refunds r ON r.order_id = o.id WHERE o.buyer_id = $1
    UNION SELECT part.refund_id FROM order_items i JOIN refund_items part ON part.order_item_id = i.id
    WHERE i.seller_id = $1
)"""
TRADED_PARTS: Final = """(t.refund_id, t.order_item_id) IN (
    SELECT part.refund_id, part.order_item_id
    FROM orders o JOIN refunds r ON r.order_id = o.id JOIN refund_items part ON part.refund_id = r.id
    WHERE o.buyer_id = $1
    UNION SELECT part.refund_id, part.order_item_id
    FROM order_items i JOIN refund_items part ON part.order_item_id = i.id WHERE i.seller_id = $1
)"""
BUYERS_PAPERS: Final = """t.number IN (
    SELECT invoice_number FROM orders WHERE buyer_id = $1
    UNION SELECT r.credit_note_number FROM orders o JOIN refunds r ON r.order_id = o.id WHERE o.buyer_id = $1
)"""
WRITTEN: Final = """t.id IN (
    SELECT id FROM reviews WHERE buyer_id = $1
    UNION SELECT r.id FROM products p JOIN reviews r ON r.product_id = p.id
    WHERE p.seller_id = $1 AND r.response IS NOT NULL
)"""

# Who reported whom is nobody's to know. Of what one is reported for one sees what one was told of.
REPORTED: Final = """t.id IN (
    SELECT id FROM reports WHERE reporter_id = $1
    UNION SELECT id FROM reports WHERE owner_id = $1 AND action IN ('warn', 'ban')
)"""

CURRENCY: Final = "ISO 4217"
CENTS: Final = "in minor units of the currency"
MADE: Final = "when it was made"
CHANGED: Final = "when it was last changed"

ACCOUNT: Final[Mapping[str, Table]] = {
    "users": Shown(
        "Account",
        "What you are called, and your address.",
        "t.id = $1",
        {
            "id": "by which everything else refers to you",
            "username": "what everyone sees you as",
            "email": "by which you sign in, folded to lower case",
            "role": "user, or admin",
            "created_at": "when you registered",
            "updated_at": CHANGED,
            "banned_until": "until when you may not take part; infinity is for good",
            "banned_at": "when you were banned",
            "ban_reason": "why, in the words that you were told",
            "erased_at": "when you had it erased",
            "do_not_sell": "whether you said not to sell or share your data; nobody does either way",
            "do_not_sell_source": "who said so: you (user), or your browser for you (signal)",
            "do_not_sell_at": "when that was said",
        },
        {"password_hash": HASH},
    ),
    "sessions": Shown(
        "Sign-ins",
        "Where you are or were signed in.",
        OWN,
        {
            "id": "the session",
            "user_id": "you",
            "created_at": "when you signed in",
            "last_used_at": "when you signed in, or your app last renewed its tokens, as it has to every hour",
            "rotated_at": "the same, kept for telling when a token is shown twice",
            "expires_at": "until when it can be renewed",
            "ended_at": "when it ended",
            "ended_why": "logout, reused, password_changed, ended_by_user, banned or erased",
            "user_agent": "what your browser or app said it is",
            "address": "the network address you came from",
        },
        {"refresh_id": SECRET, "previous_id": SECRET},
    ),
    "notifications": Shown(
        "Notifications",
        "What you were told.",
        OWN,
        {
            "id": "the notification",
            "user_id": "you",
            "number": "your first is 1",
            "kind": "what it is about",
            "title": "its title",
            "body": "its text",
            "data": "the same for programs; links that open something for whoever has them are left out",
            "created_at": "when you were told",
            "read_at": "when you read it",
        },
        instead={"data": "t.data - 'download_url'"},
    ),
    "reports": Shown(
        "Reports",
        "What you reported, and what you were warned or banned for.",
        REPORTED,
        {
            "id": "the report, if you made it",
            "reporter_id": "you, if you made it",
            "subject": "what it is about: user, product, review or stream",
            "content_id": "which one",
            "owner_id": "you, if it is about you or what is yours",
            "reason": "why, in your words, if you made it",
            "status": "pending, resolved or dismissed",
            "action": "what was decided, if it is about you or what is yours",
            "note": "what you were told with it",
            "decided_at": "when it was decided",
            "created_at": "when it was made, if you made it",
        },
        {"content_type": "what its reporter called it", "decided_by": "which admin decided; it is another person"},
        {
            # An id tells when it was made, and so perhaps by whom.
            **{
                column: f"CASE WHEN t.reporter_id = $1 THEN t.{column} END"
                for column in ("id", "reporter_id", "reason", "created_at")
            },
            **{column: f"CASE WHEN t.owner_id = $1 THEN t.{column} END" for column in ("owner_id", "action", "note")},
        },
    ),
    "exports": Shown(
        "Exports",
        "The exports you asked for, this one among them.",
        OWN,
        {
            "id": "the export",
            "user_id": "you",
            "status": "queued, running, ready, failed or expired",
            "files_done": "how many of your files were in it",
            "files_total": "of how many",
            "bytes_done": "the bytes of those",
            "bytes_total": "of how many",
            "attempts": "how often it was begun",
            "size_bytes": "the archive's size",
            "failure": "why it could not be made",
            "created_at": "when you asked for it",
            "started_at": "when it was begun",
            "finished_at": "when it was done",
            "expires_at": "until when it could be fetched",
        },
        {"due_at": QUEUE, "claim_id": QUEUE, "claimed_until": QUEUE, "object_key": STORAGE},
    ),
    "idempotency_keys": Shown(
        "Named requests",
        "What your apps named their requests, so that a repeated one does nothing twice.",
        OWN,
        {
            "user_id": "you",
            "route": "what was asked for",
            "key": "the name",
            "resource_id": "what came of it",
            "created_at": "when it was asked",
        },
        {"body_sha256": SAME, "in_flight_until": QUEUE},
    ),
    "audit_entries": Shown(
        "Activity",
        "What you did: every request that could change something, and what you did with money or as an admin.",
        "t.actor_id = $1",
        {
            "id": "the entry",
            "at": "when you did it",
            "actor_id": "you",
            "action": "what you did",
            "resource": "to what",
            "request_id": "the request by which you did it",
            "address": "the network address you came from",
            "method": "how it was asked for; nothing where it was written down by itself",
            "status": "what was answered, as a number; nothing where you had left by then",
        },
        {"details": "it may tell of other people"},
    ),
    "notification_numbers": Withheld(
        "The counter of your notifications",
        "it only counts your notifications, which are all here",
        ("user_id", "last", "closed"),
    ),
    "stream_tickets": Withheld(
        "Tickets for live updates",
        "they let your browser in within a minute, by a secret of which we keep the hash",
        ("hash", "user_id", "session_id", "expires_at"),
    ),
}

WORK: Final[Mapping[str, Table]] = {
    "products": Shown(
        "Products",
        "What you sell or prepare to sell.",
        SOLD,
        {
            "id": "the product",
            "seller_id": "you",
            "title": "its title",
            "description": "its description",
            "product_type": "what it is",
            "price_cents": f"its price, {CENTS}",
            "currency": CURRENCY,
            "tags": "its tags",
            "status": "draft, published or archived",
            "rating_sum": "the stars it got, added up",
            "rating_count": "how many reviews it has",
            "rating_average": "the one divided by the other",
            "sold_count": "how many were sold",
            "cover_type": "what its cover is; the cover is in the archive",
            "preview_type": "what its preview is; the preview is in the archive",
            "created_at": MADE,
            "updated_at": CHANGED,
        },
        {"words": SEARCH, "cover_key": STORAGE, "preview_key": STORAGE},
    ),
    "product_files": Shown(
        "Files of your products",
        "What the buyers of your products get. The files are in the archive.",
        OWN_PRODUCT,
        {
            "id": "the file",
            "product_id": "of which product",
            "filename": "its name",
            "content_type": "what it is",
            "size_bytes": "its size",
            "created_at": "when you uploaded it",
        },
        {"object_key": STORAGE},
    ),
    "streams": Shown(
        "Live streams",
        "Your live streams.",
        OWNED,
        {
            "id": "the stream",
            "owner_id": "you",
            "title": "its title; empty for one that has only a key",
            "description": "its description",
            "category": "its category",
            "tags": "its tags",
            "state": "what it was while not on air: offline or ended",
            "created_at": MADE,
            "updated_at": CHANGED,
        },
        {"key_version": "a part of what its stream key is made of", "changes": QUEUE},
    ),
    "stream_sessions": Shown(
        "Broadcasts",
        "When your streams were on air.",
        "t.stream_id IN (SELECT id FROM streams WHERE owner_id = $1)",
        {
            "id": "the session",
            "stream_id": "of which stream",
            "state": "where it stands, or how it ended",
            "started_at": "when your encoder came",
            "live_at": "when it was first seen to send",
            "ended_at": "when it ended",
            "end_reason": "why it ended",
            "reconnects": "how often your encoder came back",
            "peak_viewers": "how many watched at most",
            "bytes_in": "how much your encoder sent",
            "video": "what picture it sent",
            "audio": "what sound it sent",
        },
        {
            "holder": QUEUE,
            "ingest": QUEUE,
            "boot": QUEUE,
            "client_id": QUEUE,
            "key_version": "a part of what the stream key is made of",
            "bytes_before": QUEUE,
            "ready": QUEUE,
        },
    ),
    "reviews": Shown(
        "Reviews",
        "Reviews that you wrote, and what you answered to others'.",
        WRITTEN,
        {
            "id": "the review",
            "product_id": "of which product",
            "order_id": "by which order it was bought; yours alone",
            "buyer_id": "who wrote it, if it was you",
            "rating": "the stars, if you gave them",
            "comment": "what was written, if you wrote it",
            "response": "what the seller answered",
            "responded_at": "when they did",
            "created_at": MADE,
            "updated_at": CHANGED,
        },
        instead={
            column: f"CASE WHEN t.buyer_id = $1 THEN t.{column} END"
            for column in ("order_id", "buyer_id", "rating", "comment")
        },
    ),
}

THINGS: Final[Mapping[str, Table]] = {
    "cloud_files": Shown(
        "Cloud files",
        "The files that you keep with us. They are in the archive.",
        OWNED,
        {
            "id": "the file",
            "owner_id": "you",
            "name": "its name",
            "version": "goes up by one whenever its content is another",
            "size_bytes": "its size",
            "content_type": "what you said it is",
            "created_at": MADE,
            "updated_at": CHANGED,
        },
        {"words": SEARCH, "object_key": STORAGE},
    ),
    "cloud_versions": Shown(
        "Snapshots of cloud files",
        "Earlier versions of your files that you kept. One that holds the same as its file is in the archive once.",
        OWN_CLOUD,
        {
            "id": "the snapshot",
            "file_id": "of which file",
            "version": "the version that the file was at",
            "size_bytes": "its size",
            "content_type": "what you said it is",
            "created_at": "when it was taken",
        },
        {"object_key": STORAGE},
    ),
    "cloud_shares": Shown(
        "Shared links",
        "The links by which you let others read your files.",
        OWN_CLOUD,
        {
            "id": "the link",
            "file_id": "to which file",
            "expires_at": "until when it opens it",
            "created_at": MADE,
        },
        {"token_hash": HASH},
    ),
    "gear": Shown(
        "Gear",
        "Your gear.",
        OWNED,
        {
            "id": "the thing",
            "owner_id": "you",
            "name": "what you call it",
            "category": "its category",
            "brand": "its brand",
            "model": "its model",
            "serial_number": "its serial number",
            "purchase_date": "when you bought it",
            "purchase_price_cents": f"for how much, {CENTS}",
            "currency": CURRENCY,
            "warranty_expires_on": "when its warranty ends",
            "warned_of": "the end of warranty that you were last told of",
            "status": "active, sold, broken or lost",
            "notes": "your notes",
            "created_at": MADE,
            "updated_at": CHANGED,
        },
        {"category_key": FOLDED, "words": SEARCH},
    ),
    "gear_documents": Shown(
        "Gear documents",
        "Documents of your gear. They are in the archive.",
        OWN_GEAR,
        {
            "id": "the document",
            "gear_id": "of what",
            "type": "invoice, manual, warranty, photo or other",
            "filename": "its name",
            "content_type": "what it is",
            "size_bytes": "its size",
            "created_at": "when you uploaded it",
        },
        {"object_key": STORAGE},
    ),
    "gear_repairs": Shown(
        "Gear repairs",
        "Repairs of your gear.",
        OWN_GEAR,
        {
            "id": "the repair",
            "gear_id": "of what",
            "repair_date": "when",
            "description": "what was done",
            "cost_cents": f"what it cost, {CENTS}",
            "currency": CURRENCY,
            "provider": "who did it",
            "created_at": "when you noted it",
        },
    ),
}

MONEY: Final[Mapping[str, Table]] = {
    "orders": Shown(
        "Orders",
        "What you ordered.",
        "t.buyer_id = $1",
        {
            "id": "the order",
            "buyer_id": "you",
            "status": "where it stands",
            "currency": CURRENCY,
            "total_cents": f"what it came to, {CENTS}",
            "created_at": "when you ordered",
            "paid_at": "when it was paid",
            "expires_at": "until when it could be paid",
            "payment_id": "what the payment provider calls your payment",
            "payment_status": "what it last said of it",
            "payment_note": "why a payment that it took did not pay for this order",
            "invoice_number": "its invoice",
        },
        {
            "client_secret": SECRET,
            "sync_due_at": QUEUE,
            "sync_count": QUEUE,
            "claim_id": QUEUE,
            "claimed_until": QUEUE,
        },
    ),
    "order_items": Shown(
        "Order lines",
        "The lines of your orders, and those of others' orders in which you sold something.",
        TRADED_LINES,
        {
            "id": "the line",
            "order_id": "of which order",
            "position": "where it stands in the order",
            "product_id": "of which product",
            "seller_id": "who sold it",
            "title": "what the product was called",
            "product_type": "what it was",
            "quantity": "how many",
            "unit_price_cents": f"for how much each, {CENTS}",
            "total_cents": "for how much together",
            "refunded_cents": "how much of that went back, or is about to",
            "gone": "whether that is all of it",
            "licence_key": "what you show for having bought it, if you paid for it",
        },
        instead={
            "licence_key": "CASE WHEN t.order_id IN (SELECT id FROM orders WHERE buyer_id = $1 AND paid_at IS NOT NULL)"
            " THEN t.licence_key END"
        },
    ),
    "downloads": Shown(
        "Downloads",
        "What you downloaded of what you bought.",
        f"{OWN} AND {BOUGHT}",
        {
            "id": "the download",
            "order_id": "by which order",
            "file_id": "which file",
            "user_id": "you",
            "created_at": "when",
        },
    ),
    "disputes": Shown(
        "Disputes",
        "Payments of yours that your bank disputed.",
        BOUGHT,
        {
            "id": "what the payment provider calls it",
            "order_id": "of which order",
            "status": "what the provider last said of it",
            "state": "unknown, open, won or lost",
            "amount_cents": f"how much is disputed, {CENTS} of the order",
            "taken_cents": "how much went back to you",
            "created_at": "when we learned of it",
            "closed_at": "when it was decided",
        },
        {"due_at": QUEUE, "asked": QUEUE, "claim_id": QUEUE, "claimed_until": QUEUE},
    ),
    "refunds": Shown(
        "Refunds",
        "What was or is to be given back of your orders, and of others' for what you sold.",
        TRADED_REFUNDS,
        {
            "id": "the refund",
            "order_id": "of which order",
            "origin": "who began it: buyer, seller, admin, platform or dispute",
            "requested_by": "who asked for it, if it was you",
            "status": "requested, declined, pending, succeeded or failed",
            "reason": "why, in your words, if you asked for it",
            "details": "what you said about it",
            "amount_cents": f"how much, {CENTS}, if it was your order; your part of another's is in refund_shares",
            "currency": CURRENCY,
            "failure_code": "why it came to nothing",
            "credit_note_number": "its credit note, if it was your order",
            "decided_by": "who decided, if it was you",
            "decided_at": "when that was",
            "decision_reason": "why it was decided so, in your words, if you decided",
            "created_at": "when it was asked for",
            "completed_at": "when it was done",
        },
        {
            "reference": "the provider's own name for it, by which only we can ask about it",
            "failure_message": FOR_US,
            "due_at": QUEUE,
            "asked": QUEUE,
            "claim_id": QUEUE,
            "claimed_until": QUEUE,
        },
        {
            "requested_by": "CASE WHEN t.requested_by = $1 THEN t.requested_by END",
            "decided_by": "CASE WHEN t.decided_by = $1 THEN t.decided_by END",
            "reason": "CASE WHEN t.requested_by = $1 THEN t.reason END",
            "details": "CASE WHEN t.requested_by = $1 THEN t.details END",
            "decision_reason": "CASE WHEN t.decided_by = $1 THEN t.decision_reason END",
            "amount_cents": f"CASE WHEN {BOUGHT} THEN t.amount_cents END",
            "credit_note_number": f"CASE WHEN {BOUGHT} THEN t.credit_note_number END",
        },
    ),
    "refund_items": Shown(
        "Refunded lines",
        "What was given back of each line.",
        TRADED_PARTS,
        {
            "refund_id": "by which refund",
            "order_item_id": "of which line",
            "amount_cents": f"how much, {CENTS}",
            "quantity": "how many; nothing where an amount was asked for",
        },
    ),
    "invoice_documents": Shown(
        "Invoices and credit notes",
        "What your invoices and credit notes say. As PDF they are in the archive too.",
        BUYERS_PAPERS,
        {
            "number": "its number",
            "document": "what it says",
            "made_at": MADE,
        },
    ),
    "connect_accounts": Shown(
        "Payout account",
        "Your account at the payout provider.",
        OWN,
        {
            "user_id": "you",
            "account_id": "what the provider calls it",
            "transfers_active": "whether you can be paid",
            "details_submitted": "whether you told the provider what it asked you",
            "has_owed": "whether a refund ever came after you had been paid",
            "created_at": MADE,
            "updated_at": CHANGED,
        },
        {"key_epoch": QUEUE, "check_due_at": QUEUE},
    ),
    "earnings": Shown(
        "Earnings",
        "What you earned of each order.",
        SOLD,
        {
            "order_id": "of which order",
            "seller_id": "you",
            "gross_cents": f"what your lines came to, {CENTS} of the order",
            "fee_cents": "the platform's fee",
            "fee_bp": "which is so many hundredths of a percent",
        },
    ),
    "transfers": Shown(
        "Payouts",
        "What you were paid, or are to be.",
        SOLD,
        {
            "id": "the transfer",
            "order_id": "for which order",
            "seller_id": "you",
            "amount_cents": f"how much, {CENTS}",
            "platform_fee_cents": "the platform's fee, which is not in it",
            "currency": CURRENCY,
            "status": "pending, processing, completed, failed, held or reversed",
            "hold_reason": "why it is held",
            "disputed": "whether the order's payment is disputed",
            "retry_count": "how often it was tried again",
            "tried_at": "when it was last tried",
            "next_retry_at": "when it is tried next",
            "destination": "your account at the provider",
            "external_ref": "what the provider calls it",
            "failure_code": "why it failed",
            "withheld_cents": "what was kept of it for refunds",
            "reversed_cents": "what came back of it for refunds",
            "reversed_at": "when that last happened",
            "created_at": MADE,
            "updated_at": CHANGED,
            "completed_at": "when you were paid",
        },
        {
            "failure_message": FOR_US,
            "attempts": QUEUE,
            "key_epoch": QUEUE,
            "claim_id": QUEUE,
            "claimed_until": QUEUE,
            "key_used_at": QUEUE,
            "doubtful": QUEUE,
            "absent_since": QUEUE,
            "open_refunds": QUEUE,
        },
    ),
    "transfer_attempts": Shown(
        "Payout attempts",
        "Each try to pay you.",
        "t.transfer_id IN (SELECT id FROM transfers WHERE seller_id = $1)",
        {
            "transfer_id": "of which transfer",
            "started_at": "when it was begun",
            "finished_at": "when it was over",
            "outcome": "what came of it",
        },
        {"message": FOR_US, "claim_id": QUEUE, "idempotency_key": QUEUE},
    ),
    "refund_shares": Shown(
        "Your share of refunds",
        "Your part of each refund of what you sold, and how it came back from you.",
        f"t.id IN ({OWN_SHARES})",
        {
            "id": "the share",
            "refund_id": "of which refund",
            "order_id": "of which order",
            "seller_id": "you",
            "currency": CURRENCY,
            "gross_cents": f"how much went back to the buyer, {CENTS}",
            "fee_cents": "how much of that out of the platform's fee",
            "withheld_cents": "how much was kept of what you had not been sent",
            "reversed_cents": "how much was taken back of what you had",
            "reversing_cents": "how much is being taken back",
            "status": "open, waiting, reversing, owed, settled or void",
            "external_ref": "what the provider calls what it took back",
            "failure_code": "why taking it back failed",
        },
        {
            "failure_message": FOR_US,
            "due_at": QUEUE,
            "attempts": QUEUE,
            "key_epoch": QUEUE,
            "key_used_at": QUEUE,
            "doubtful": QUEUE,
            "absent_since": QUEUE,
            "claim_id": QUEUE,
            "claimed_until": QUEUE,
        },
    ),
    "withholdings": Shown(
        "Withheld from payouts",
        "What was kept of which transfer for a refund.",
        f"t.share_id IN ({OWN_SHARES})",
        {
            "share_id": "for which of your shares of refunds",
            "transfer_id": "of which transfer",
            "amount_cents": f"how much, {CENTS}",
            "created_at": "when",
        },
    ),
    "ledger_accounts": Shown(
        "Ledger accounts",
        "Your accounts in our books.",
        "t.kind = 'seller' AND t.owner = $1",
        {
            "id": "the account",
            "kind": "seller",
            "owner": "you",
            "currency": CURRENCY,
        },
    ),
    "journals": Shown(
        "Ledger journals",
        "What was booked on your accounts. What concerns you as a buyer is in your orders and refunds.",
        f"t.id IN (SELECT journal_id FROM entries WHERE account_id IN ({OWN_ACCOUNT}))",
        {
            "id": "the journal",
            "kind": "capture, transfer, refund or reversal",
            "external_ref": "what happened at the provider",
            "order_id": "for which order",
            "created_at": "when it was booked",
        },
    ),
    "entries": Shown(
        "Ledger entries",
        "How much was booked on your accounts.",
        f"t.account_id IN ({OWN_ACCOUNT})",
        {
            "id": "the entry",
            "journal_id": "of which journal",
            "account_id": "on which account",
            "amount_cents": f"how much, {CENTS}; less than zero is yours to get",
            "currency": CURRENCY,
        },
    ),
    "provider_events": Withheld(
        "Messages from the payment providers",
        "they say when we were told to ask the providers about a payment or an account, by ids that are in orders and"
        " connect_accounts",
        ("provider", "event_id", "event_type", "subject", "received_at"),
    ),
    "reconciliations": Withheld(
        "Comparisons of our books with the provider's",
        "they say where our books and the provider's differ, by ids that are in transfers, of many people at once",
        ("id", "ran_at", "provider_asked", "findings"),
    ),
}

PLATFORM: Final[Mapping[str, Table]] = {
    "billings": Impersonal("the platform's own name and address on invoices", ("id", "since", "billing")),
    "number_series": Impersonal("the last invoice number of each year", ("series", "year", "last")),
    "schedules": Impersonal("when what is done by the clock is due", ("name", "due_at")),
    "feature_flags": Impersonal("which features are switched on", ("name", "enabled", "updated_at")),
    "maintenance": Impersonal(
        "whether the doors are closed, and what is said of it",
        ("one", "enabled", "message", "expected_end", "updated_at"),
    ),
    "announcements": Impersonal(
        "what the operator tells everybody",
        ("id", "title", "content", "type", "starts_at", "ends_at", "created_at"),
    ),
    "live_processes": Impersonal("how many watch each stream, of nobody in particular", ("id", "seen_at", "viewers")),
    "orphans": Impersonal("bytes that no row names any more, until they are removed", ("object_key", "since")),
    "tags": Impersonal("how often each tag is in use", ("tag", "key", "uses")),
}

GROUPS: Final[Mapping[str, Mapping[str, Table]]] = {
    "Your account": ACCOUNT,
    "Your work": WORK,
    "Your files and gear": THINGS,
    "Orders, sales and money": MONEY,
}
"""What is about people, as a person would look for it."""

TABLES: Final[Mapping[str, Table]] = {**ACCOUNT, **WORK, **THINGS, **MONEY, **PLATFORM}
"""Every table but the migrations' own (``_yoyo_...``, ``yoyo_lock``), which hold nothing of anybody."""


def shown() -> Iterator[tuple[str, Shown]]:
    """The tables that an export has, in its order."""
    for name, table in TABLES.items():
        if isinstance(table, Shown):
            yield name, table


def withheld() -> Iterator[tuple[str, Withheld]]:
    """The tables about people of which an export shows nothing."""
    for name, table in TABLES.items():
        if isinstance(table, Withheld):
            yield name, table


MOMENTS: Final = ("_at", "_until", "_since")
"""What the names of columns end in that hold a moment; a test holds them to it."""


def is_moment(column: str) -> bool:
    return column == "at" or column.endswith(MOMENTS)


def selected(table: Shown, column: str) -> str:
    """SQL for a shown column of a row ``t``; a moment as RFC 3339 in UTC, ending in Z, but for one that never comes."""
    value = table.instead.get(column, f"t.{column}")
    if not is_moment(column):
        return f"{value} AS {column}"
    told = f"""to_char({value} AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')"""
    return f"CASE WHEN isfinite({value}) THEN {told} ELSE {value}::text END AS {column}"
