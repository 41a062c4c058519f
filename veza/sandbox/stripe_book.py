"""Stripe's rows and the objects made of them: accounts, transfers, reversals, balances, events.

Field names and types are Stripe's published ones; `tests/sandbox/test_published_fields.py` holds us to them.
"""

from __future__ import annotations

import json
import time
from sqlite3 import Row

from veza.sandbox.desk import Call, new_id
from veza.sandbox.store import Json, Object, Store, to_json
from veza.sandbox.webhooks import Outbox

API_VERSION = "2026-10-28.endive"  # the version the fields below were checked against
PLATFORM = ""  # the platform's own balance, in the `account` column

SCHEMA = """
create table if not exists accounts (
    id text primary key, created integer not null, type text not null, country text not null, email text,
    default_currency text not null, business_type text, metadata text not null, requested text not null,
    transfers text not null, details_submitted integer not null, revoked integer not null default 0
);
create table if not exists account_links (
    token text primary key, account text not null references accounts (id), return_url text not null,
    refresh_url text not null, expires_at integer not null, used integer not null default 0
);
create table if not exists transfers (
    seq integer primary key autoincrement, id text not null unique, created integer not null,
    amount integer not null check (amount > 0), currency text not null,
    destination text not null references accounts (id), description text, metadata text not null,
    transfer_group text, source_transaction text, balance_transaction text not null,
    destination_payment text not null
);
create index if not exists transfers_by_group on transfers (transfer_group);
create index if not exists transfers_by_destination on transfers (destination);
create table if not exists reversals (
    seq integer primary key autoincrement, id text not null unique, created integer not null,
    transfer text not null references transfers (id), amount integer not null check (amount > 0),
    currency text not null, metadata text not null, balance_transaction text not null,
    destination_payment_refund text not null
);
create index if not exists reversals_by_transfer on reversals (transfer);
create table if not exists balances (
    account text not null, currency text not null, available integer not null, pending integer not null default 0,
    primary key (account, currency)
);
create table if not exists idempotency (
    key text primary key, fingerprint text not null, status integer not null, body blob not null,
    request_id text not null, created real not null
);
"""

DUE_BEFORE_ONBOARDING: list[Json] = ["external_account", "tos_acceptance.date", "tos_acceptance.ip"]


class StripeBook:
    def __init__(self, store: Store, outbox: Outbox, platform_float: int) -> None:
        self.store = store
        self._outbox = outbox
        self._platform_float = platform_float

    def account(self, account_id: str) -> Row | None:
        return self.store.row("select * from accounts where id = ?", account_id)

    def transfer(self, transfer_id: str) -> Row | None:
        return self.store.row("select * from transfers where id = ?", transfer_id)

    def reversed_of(self, transfer_id: str) -> int:
        row = self.store.row("select coalesce(sum(amount), 0) as total from reversals where transfer = ?", transfer_id)
        return 0 if row is None else int(row["total"])

    def funds(self, account: str, currency: str) -> tuple[int, int]:
        """(available, pending). The platform starts with its float in each currency, others with nothing."""
        row = self.store.row("select * from balances where account = ? and currency = ?", account, currency)
        if row is not None:
            return int(row["available"]), int(row["pending"])
        return (self._platform_float if account == PLATFORM else 0), 0

    def set_funds(self, account: str, currency: str, available: int, pending: int) -> None:
        self.store.run(
            "insert or replace into balances (account, currency, available, pending) values (?, ?, ?, ?)",
            account,
            currency,
            available,
            pending,
        )

    def move(self, currency: str, amount: int, source: str, target: str) -> bool:
        """Move `amount` between two available balances; False, changing nothing, if the source has less."""
        have, pending = self.funds(source, currency)
        if have < amount:
            return False
        self.set_funds(source, currency, have - amount, pending)
        there, pending_there = self.funds(target, currency)
        self.set_funds(target, currency, there + amount, pending_there)
        return True

    def emit(self, event_type: str, subject: Object, call: Call | None, account: str | None = None) -> None:
        """Record an event for the webhook sender; inside the transaction of what it tells of."""
        event_id = new_id("evt_")
        request: Object = {"id": call.request_id if call else None, "idempotency_key": call.key if call else None}
        event: Object = {
            "id": event_id,
            "object": "event",
            "api_version": API_VERSION,
            "created": int(time.time()),
            "data": {"object": subject},
            "livemode": False,
            "pending_webhooks": 1,
            "request": request,
            "type": event_type,
        }
        if account is not None:
            event["account"] = account
        self._outbox.write(event_id, event_type, to_json(event).encode())

    def account_object(self, row: Row) -> Object:
        ready = row["transfers"] == "active"
        requested: list[str] = json.loads(row["requested"])
        capabilities: Object = dict.fromkeys(requested, row["transfers"])
        due: list[Json] = [] if row["details_submitted"] else DUE_BEFORE_ONBOARDING
        return {
            "id": row["id"],
            "object": "account",
            "business_type": row["business_type"],
            "capabilities": capabilities,
            "charges_enabled": ready and "card_payments" in requested,
            "country": row["country"],
            "created": row["created"],
            "default_currency": row["default_currency"],
            "details_submitted": bool(row["details_submitted"]),
            "email": row["email"],
            "metadata": json.loads(row["metadata"]),
            "payouts_enabled": ready,
            "requirements": requirements(due),
            "type": row["type"],
        }

    def transfer_object(self, row: Row) -> Object:
        reversed_amount = self.reversed_of(row["id"])
        newest = self.store.rows("select * from reversals where transfer = ? order by seq desc limit 11", row["id"])
        url = f"/v1/transfers/{row['id']}/reversals"
        return {
            "id": row["id"],
            "object": "transfer",
            "amount": row["amount"],
            "amount_reversed": reversed_amount,
            "balance_transaction": row["balance_transaction"],
            "created": row["created"],
            "currency": row["currency"],
            "description": row["description"],
            "destination": row["destination"],
            "destination_payment": row["destination_payment"],
            "livemode": False,
            "metadata": json.loads(row["metadata"]),
            "reversals": listing([reversal_object(each) for each in newest[:10]], url, has_more=len(newest) > 10),
            "reversed": reversed_amount == row["amount"],
            "source_transaction": row["source_transaction"],
            "source_type": "card",
            "transfer_group": row["transfer_group"],
        }

    def balance_object(self, account: str) -> Object:
        rows = self.store.rows("select * from balances where account = ? order by currency", account)
        held = {str(row["currency"]): (int(row["available"]), int(row["pending"])) for row in rows}
        if not held:
            known = None if account == PLATFORM else self.account(account)
            currency = "eur" if known is None else str(known["default_currency"])
            held = {currency: self.funds(account, currency)}
        balance: Object = {
            "object": "balance",
            "available": [amount_of(available, currency) for currency, (available, _) in held.items()],
            "livemode": False,
            "pending": [amount_of(pending, currency) for currency, (_, pending) in held.items()],
        }
        if account == PLATFORM:
            balance["connect_reserved"] = [{"amount": 0, "currency": currency} for currency in held]
        return balance


def amount_of(amount: int, currency: str) -> Json:
    return {"amount": amount, "currency": currency, "source_types": {"card": amount}}


def listing(data: list[Object], url: str, *, has_more: bool) -> Object:
    return {"object": "list", "data": list[Json](data), "has_more": has_more, "url": url}


def reversal_object(row: Row) -> Object:
    return {
        "id": row["id"],
        "object": "transfer_reversal",
        "amount": row["amount"],
        "balance_transaction": row["balance_transaction"],
        "created": row["created"],
        "currency": row["currency"],
        "destination_payment_refund": row["destination_payment_refund"],
        "metadata": json.loads(row["metadata"]),
        "source_refund": None,
        "transfer": row["transfer"],
    }


def requirements(due: list[Json]) -> Object:
    return {
        "alternatives": [],
        "current_deadline": None,
        "currently_due": due,
        "disabled_reason": "requirements.past_due" if due else None,
        "errors": [],
        "eventually_due": due,
        "past_due": due,
        "pending_verification": [],
    }
