"""Hyperswitch's rows and the objects made of them: payments, refunds, disputes, events.

A payment has two statuses. `truth` is the connector's; `status` is what Hyperswitch knows of it, and follows when
the connector tells it, or when somebody asks with ``force_sync=true``.
"""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from sqlite3 import Row

from veza.sandbox.desk import new_id
from veza.sandbox.store import Json, Object, Store, to_json
from veza.sandbox.webhooks import Outbox

MERCHANT = "merchant_sandbox"
PROFILE = "pro_sandbox"
CONNECTOR = "fauxpay"

SCHEMA = """
create table if not exists payments (
    payment_id text primary key, client_secret text not null, amount integer not null check (amount >= 0),
    currency text not null, status text not null, truth text not null, capture_method text not null,
    customer_id text, description text, return_url text, metadata text, payment_method text,
    error_code text, error_message text, cancellation_reason text, connector_transaction_id text,
    attempt_count integer not null default 1, created real not null, updated real not null, expires_on real not null
);
create table if not exists refunds (
    seq integer primary key autoincrement, refund_id text not null unique,
    payment_id text not null references payments (payment_id), amount integer not null check (amount > 0),
    currency text not null, status text not null, reason text, metadata text,
    error_code text, error_message text, created real not null, updated real not null
);
create index if not exists refunds_by_payment on refunds (payment_id);
create table if not exists disputes (
    seq integer primary key autoincrement, dispute_id text not null unique,
    payment_id text not null references payments (payment_id), attempt_id text not null,
    amount integer not null check (amount > 0), currency text not null, status text not null,
    connector_dispute_id text not null, reason text not null,
    created real not null, updated real not null, challenge_by real not null
);
create index if not exists disputes_by_payment on disputes (payment_id);
"""

EVENT_OF = {
    "succeeded": "payment_succeeded",
    "failed": "payment_failed",
    "processing": "payment_processing",
    "cancelled": "payment_cancelled",
    "requires_capture": "payment_authorized",
    "requires_customer_action": "action_required",
    "expired": "payment_expired",
}
REFUND_EVENT_OF = {"succeeded": "refund_succeeded", "failed": "refund_failed"}
CAPTURED = ("succeeded", "partially_captured")


class PaymentBook:
    def __init__(self, store: Store, outbox: Outbox) -> None:
        self.store = store
        self._outbox = outbox

    def payment(self, payment_id: str) -> Row | None:
        return self.store.row("select * from payments where payment_id = ?", payment_id)

    def refund(self, refund_id: str) -> Row | None:
        return self.store.row("select * from refunds where refund_id = ?", refund_id)

    def dispute(self, dispute_id: str) -> Row | None:
        return self.store.row("select * from disputes where dispute_id = ?", dispute_id)

    def refunded(self, payment_id: str) -> int:
        """What was refunded or is about to be: a failed refund gives its amount back."""
        row = self.store.row(
            "select coalesce(sum(amount), 0) as total from refunds where payment_id = ? and status <> 'failed'",
            payment_id,
        )
        return 0 if row is None else int(row["total"])

    def settle(self, row: Row, status: str, *, webhook: bool = True, cancellation: str | None = None) -> None:
        """Both the connector and Hyperswitch now say `status`."""
        declined = status == "failed"
        self.store.run(
            "update payments set status = ?, truth = ?, updated = ?, error_code = ?, error_message = ?,"
            " cancellation_reason = coalesce(?, cancellation_reason),"
            " payment_method = coalesce(payment_method, ?), connector_transaction_id ="
            " coalesce(connector_transaction_id, ?) where payment_id = ?",
            status,
            status,
            later_than(row["updated"]),
            "card_declined" if declined else None,
            "The card was declined" if declined else None,
            cancellation,
            None if status in ("cancelled", "expired") else "card",
            None if status in ("cancelled", "expired") else new_id("txn_"),
            row["payment_id"],
        )
        if webhook and status in EVENT_OF:
            self.emit(EVENT_OF[status], "payment_details", self.payment_object(row["payment_id"]))

    def settle_refund(self, row: Row, status: str, *, webhook: bool = True) -> None:
        failed = status == "failed"
        self.store.run(
            "update refunds set status = ?, updated = ?, error_code = ?, error_message = ? where refund_id = ?",
            status,
            later_than(row["updated"]),
            "refund_failed" if failed else None,
            "The connector could not refund" if failed else None,
            row["refund_id"],
        )
        if webhook and status in REFUND_EVENT_OF:
            self.emit(REFUND_EVENT_OF[status], "refund_details", self.refund_object(row["refund_id"]))

    def emit(self, event_type: str, content_type: str, subject: Object) -> None:
        event_id = new_id("evt_")
        body: Object = {
            "merchant_id": MERCHANT,
            "event_id": event_id,
            "event_type": event_type,
            "content": {"type": content_type, "object": subject},
            "timestamp": moment(time.time()),
        }
        self._outbox.write(event_id, event_type, to_json(body).encode())

    def payment_object(self, payment_id: str) -> Object:
        row = self.payment(payment_id)
        if row is None:
            raise LookupError(payment_id)
        captured = row["status"] in CAPTURED
        refunds = self.store.rows("select refund_id from refunds where payment_id = ? order by seq", payment_id)
        listed: list[Json] = [self.refund_object(refund["refund_id"]) for refund in refunds]
        disputes = self.store.rows("select * from disputes where payment_id = ? order by seq", payment_id)
        return {
            "payment_id": row["payment_id"],
            "merchant_id": MERCHANT,
            "status": row["status"],
            "amount": row["amount"],
            "net_amount": row["amount"],
            "amount_capturable": 0 if captured or row["status"] in ("cancelled", "expired") else row["amount"],
            "amount_received": row["amount"] if captured else None,
            "processor_merchant_id": MERCHANT,
            "connector": CONNECTOR if row["payment_method"] else None,
            "client_secret": row["client_secret"],
            "created": moment(row["created"]),
            "modified_at": moment(row["updated"]),
            "currency": row["currency"],
            "customer_id": row["customer_id"],
            "description": row["description"],
            "refunds": listed or None,
            "disputes": [dispute_in_payment(dispute) for dispute in disputes] or None,
            "capture_method": row["capture_method"],
            "payment_method": row["payment_method"],
            "return_url": row["return_url"],
            "authentication_type": "no_three_ds",
            "cancellation_reason": row["cancellation_reason"],
            "error_code": row["error_code"],
            "error_message": row["error_message"],
            "connector_transaction_id": row["connector_transaction_id"],
            "metadata": None if row["metadata"] is None else json.loads(row["metadata"]),
            "profile_id": PROFILE,
            "attempt_count": row["attempt_count"],
            "expires_on": moment(row["expires_on"]),
            "updated": moment(row["updated"]),
        }

    def refund_object(self, refund_id: str) -> Object:
        row = self.refund(refund_id)
        if row is None:
            raise LookupError(refund_id)
        return {
            "refund_id": row["refund_id"],
            "payment_id": row["payment_id"],
            "amount": row["amount"],
            "currency": row["currency"],
            "status": row["status"],
            "reason": row["reason"],
            "metadata": None if row["metadata"] is None else json.loads(row["metadata"]),
            "error_message": row["error_message"],
            "error_code": row["error_code"],
            "created_at": moment(row["created"]),
            "updated_at": moment(row["updated"]),
            "connector": CONNECTOR,
            "profile_id": PROFILE,
        }

    def dispute_object(self, dispute_id: str) -> Object:
        row = self.dispute(dispute_id)
        if row is None:
            raise LookupError(dispute_id)
        return {
            **dispute_in_payment(row),
            "payment_id": row["payment_id"],
            "attempt_id": row["attempt_id"],
            "amount": str(row["amount"]),  # minor units too, but published as a string
            "currency": row["currency"],
            "connector": CONNECTOR,
            "profile_id": PROFILE,
            "merchant_connector_id": None,
        }


def dispute_in_payment(row: Row) -> Object:
    """A dispute as its payment lists it: without what the payment says already, and without its amount.

    A dispute has no ``updated_at``; the time of its last change is ``connector_updated_at``.
    """
    return {
        "dispute_id": row["dispute_id"],
        "dispute_stage": "dispute",
        "dispute_status": row["status"],
        "connector_status": row["status"].removeprefix("dispute_"),
        "connector_dispute_id": row["connector_dispute_id"],
        "connector_reason": row["reason"],
        "connector_reason_code": None,
        "challenge_required_by": moment(row["challenge_by"]),
        "connector_created_at": moment(row["created"]),
        "connector_updated_at": moment(row["updated"]),
        "created_at": moment(row["created"]),
    }


def moment(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def later_than(before: float) -> float:
    """Now, but at least a millisecond after `before`: receivers order an object's events by this time."""
    return max(time.time(), before + 0.001)
