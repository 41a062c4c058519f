"""Stripe's transfers, reversals and balances: where money moves, once."""

from __future__ import annotations

import time
from sqlite3 import Row

from veza.sandbox.desk import Call, Refused, Reply, new_id
from veza.sandbox.store import Bindable, Object, Store, to_json
from veza.sandbox.stripe_book import PLATFORM, StripeBook, listing, reversal_object
from veza.sandbox.stripe_errors import (
    account_invalid,
    balance_insufficient,
    error,
    insufficient_capabilities,
    invalid,
    no_such,
)
from veza.sandbox.stripe_params import check_names, currency, integer, metadata, text

TRANSFER_FIELDS = (
    "amount",
    "currency",
    "description",
    "destination",
    "expand",
    "metadata",
    "source_transaction",
    "source_type",
    "transfer_group",
)
LIST_FIELDS = ("created", "destination", "ending_before", "expand", "limit", "starting_after", "transfer_group")
REVERSAL_FIELDS = ("amount", "description", "expand", "metadata", "refund_application_fee")
COMPARISONS = {"gt": ">", "gte": ">=", "lt": "<", "lte": "<="}


class Transfers:
    def __init__(self, store: Store, book: StripeBook) -> None:
        self._store = store
        self._book = book

    def create(self, call: Call, _: str) -> Reply:
        check_names(call.params, TRANSFER_FIELDS, ("amount", "currency", "destination"))
        amount, money = integer(call.params, "amount") or 0, currency(call.params)
        destination = text(call.params, "destination") or ""
        described, tags = text(call.params, "description"), metadata(call.params)
        group, source = text(call.params, "transfer_group"), text(call.params, "source_transaction")
        # From here on the endpoint has begun: whatever it answers is stored under the idempotency key.
        if source is not None:
            raise Refused(no_such("charge", source, "source_transaction", 400))
        self._check_destination(destination)
        if not self._book.move(money, amount, PLATFORM, destination):
            raise Refused(balance_insufficient())
        transfer_id = new_id("tr_")
        self._store.insert(
            "transfers",
            {
                "id": transfer_id,
                "created": int(time.time()),
                "amount": amount,
                "currency": money,
                "destination": destination,
                "description": described,
                "metadata": to_json(tags),
                "transfer_group": group,
                "balance_transaction": new_id("txn_"),
                "destination_payment": new_id("py_"),
            },
        )
        created = self._book.transfer_object(self._found(transfer_id))
        self._book.emit("transfer.created", created, call)
        return Reply.json(created)

    def _check_destination(self, destination: str) -> None:
        account = self._book.account(destination)
        if account is None:
            raise Refused(no_such("destination", destination, "destination", 400))
        if account["revoked"]:
            raise Refused(account_invalid(destination))
        if account["transfers"] != "active":
            raise Refused(insufficient_capabilities())

    def _found(self, transfer_id: str) -> Row:
        row = self._book.transfer(transfer_id)
        if row is None:
            raise Refused(no_such("transfer", transfer_id, "id"), begun=False)
        return row

    def retrieve(self, call: Call, transfer_id: str) -> Reply:
        check_names(call.params, ("expand",))
        return Reply.json(self._book.transfer_object(self._found(transfer_id)))

    def update(self, call: Call, transfer_id: str) -> Reply:
        check_names(call.params, ("description", "expand", "metadata"))
        row = self._found(transfer_id)
        before = self._book.transfer_object(row)["metadata"]
        merged: Object = (before if isinstance(before, dict) else {}) | metadata(call.params)
        kept: Object = {name: value for name, value in merged.items() if value != ""}
        described = text(call.params, "description") if "description" in call.params else row["description"]
        self._store.run(
            "update transfers set metadata = ?, description = ? where id = ?", to_json(kept), described, transfer_id
        )
        updated = self._book.transfer_object(self._found(transfer_id))
        self._book.emit("transfer.updated", updated, call)
        return Reply.json(updated)

    def list(self, call: Call, _: str) -> Reply:
        check_names(call.params, LIST_FIELDS)
        where, values = filters(call.params)
        rows, has_more = page(self._store, "transfers", where, values, call.params)
        return Reply.json(
            listing([self._book.transfer_object(row) for row in rows], "/v1/transfers", has_more=has_more)
        )

    def reverse(self, call: Call, transfer_id: str) -> Reply:
        check_names(call.params, REVERSAL_FIELDS)
        wanted, tags = integer(call.params, "amount"), metadata(call.params)
        transfer = self._found(transfer_id)
        left = int(transfer["amount"]) - self._book.reversed_of(transfer_id)
        amount = left if wanted is None else wanted
        if left == 0:
            raise Refused(error(400, f"Transfer {transfer_id} is already fully reversed."))
        if amount > left:
            message = f"Only {left} of transfer {transfer_id} is left to reverse; {amount} is more than that."
            raise Refused(error(400, message, param="amount"))
        if not self._book.move(transfer["currency"], amount, transfer["destination"], PLATFORM):
            raise Refused(balance_insufficient())
        reversal_id = new_id("trr_")
        self._store.insert(
            "reversals",
            {
                "id": reversal_id,
                "created": int(time.time()),
                "transfer": transfer_id,
                "amount": amount,
                "currency": transfer["currency"],
                "metadata": to_json(tags),
                "balance_transaction": new_id("txn_"),
                "destination_payment_refund": new_id("pyr_"),
            },
        )
        self._book.emit("transfer.reversed", self._book.transfer_object(self._found(transfer_id)), call)
        return self.retrieve_reversal(call, transfer_id, reversal_id)

    def retrieve_reversal(self, _: Call, transfer_id: str, reversal_id: str) -> Reply:
        row = self._store.row("select * from reversals where id = ? and transfer = ?", reversal_id, transfer_id)
        if row is None:
            raise Refused(no_such("transfer reversal", reversal_id, "id"), begun=False)
        return Reply.json(reversal_object(row))

    def list_reversals(self, call: Call, transfer_id: str) -> Reply:
        check_names(call.params, ("ending_before", "expand", "limit", "starting_after"))
        self._found(transfer_id)
        rows, has_more = page(self._store, "reversals", ["transfer = ?"], [transfer_id], call.params)
        url = f"/v1/transfers/{transfer_id}/reversals"
        return Reply.json(listing([reversal_object(row) for row in rows], url, has_more=has_more))

    def balance(self, call: Call, _: str) -> Reply:
        check_names(call.params, ("expand",))
        account = call.account or PLATFORM
        row = None if account == PLATFORM else self._book.account(account)
        if account != PLATFORM and (row is None or row["revoked"]):
            raise Refused(account_invalid(account))
        return Reply.json(self._book.balance_object(account))


def filters(params: Object) -> tuple[list[str], list[Bindable]]:
    where, values = list[str](), list[Bindable]()
    for name in ("destination", "transfer_group"):
        if name in params:
            where.append(f"{name} = ?")
            values.append(text(params, name))
    created = params.get("created")
    if isinstance(created, dict):
        for name in created:
            if name not in COMPARISONS:
                raise invalid(f"Received unknown parameter: created[{name}]", "parameter_unknown", f"created[{name}]")
            where.append(f"created {COMPARISONS[name]} ?")
            values.append(integer(created, name, least=0, most=2**53))
    elif created is not None:
        where.append("created = ?")
        values.append(integer(params, "created", least=0, most=2**53))
    return where, values


def page(store: Store, table: str, where: list[str], values: list[Bindable], params: Object) -> tuple[list[Row], bool]:
    """Newest first, from the cursor on. The cursor is an object's id, its place the row's sequence number."""
    limit = integer(params, "limit", most=100) or 10
    after, before = text(params, "starting_after"), text(params, "ending_before")
    if after is not None and before is not None:
        raise invalid("You may only specify one of starting_after and ending_before.", None, "starting_after")
    where, values, order = [*where, "true"], list(values), "desc"
    for name, cursor, sign in (("starting_after", after, "<"), ("ending_before", before, ">")):
        if cursor is None:
            continue
        at = store.row(f"select seq from {table} where id = ?", cursor)  # noqa: S608  the table is ours
        if at is None:
            raise Refused(no_such(table.removesuffix("s"), cursor, name, 400), begun=False)
        where.append(f"seq {sign} ?")
        values.append(at["seq"])
        order = "asc" if sign == ">" else "desc"
    rows = store.rows(
        f"select * from {table} where {' and '.join(where)} order by seq {order} limit ?",  # noqa: S608
        *values,
        limit + 1,
    )
    chosen = rows[:limit]
    return (chosen[::-1] if order == "asc" else chosen), len(rows) > limit
