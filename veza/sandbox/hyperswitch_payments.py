"""Hyperswitch's payments and refunds: create, sync, confirm, cancel, refund."""

from __future__ import annotations

import hmac
import re
import secrets
import time
from sqlite3 import IntegrityError, Row

from veza.sandbox.desk import Call, Refused, Reply, new_id
from veza.sandbox.hyperswitch_book import CAPTURED, PaymentBook
from veza.sandbox.hyperswitch_errors import (
    bad_client_secret,
    bad_data,
    bad_format,
    duplicate_payment,
    duplicate_refund,
    exceeds_captured,
    missing_field,
    no_payment,
    no_refund,
    unauthorized,
    unexpected_state,
)
from veza.sandbox.published import PAYMENT_REQUEST, REFUND_REQUEST
from veza.sandbox.store import Bindable, Object, Store, to_json

ID_LENGTH = 30  # of a payment_id or refund_id chosen by the merchant
SESSION_SECONDS = 900  # the published default of session_expiry
LARGEST = 2**63 - 1
OPEN = ("requires_payment_method", "requires_confirmation", "requires_customer_action")
CANCELLABLE = (*OPEN, "requires_capture", "requires_merchant_action", "processing")
DECLINED_CARD = "4000000000000002"  # the test number that connectors decline


class Payments:
    def __init__(self, store: Store, book: PaymentBook) -> None:
        self._store = store
        self._book = book

    def create(self, call: Call, _: str) -> Reply:
        trusted(call)
        known(call.params, PAYMENT_REQUEST)
        payment_id = chosen_id(call.params, "payment_id", "pay_")
        now = time.time()
        session = integer(call.params, "session_expiry")
        row: dict[str, Bindable] = {
            "payment_id": payment_id,
            "client_secret": f"{payment_id}_secret_{secrets.token_hex(10)}",
            "amount": required_amount(call.params),
            "currency": currency(call.params),
            "status": "requires_payment_method",
            "truth": "requires_payment_method",
            "capture_method": one_of(call.params, "capture_method", ("automatic", "manual"), "automatic"),
            "customer_id": customer(call.params),
            "description": string(call.params, "description", 2**16),
            "return_url": string(call.params, "return_url", 2048),
            "metadata": mapping(call.params, "metadata"),
            "created": now,
            "updated": now,
            "expires_on": now + (SESSION_SECONDS if session is None else session),
        }
        try:
            self._store.insert("payments", row)
        except IntegrityError:
            raise duplicate_payment(payment_id) from None
        if call.params.get("confirm") is True:
            self._confirm(self._found(payment_id), call.params)
        elif call.params.get("payment_method") is not None:
            self._set_status(payment_id, "requires_confirmation")
        return Reply.json(self._book.payment_object(payment_id))

    def _found(self, payment_id: str) -> Row:
        row = self._book.payment(payment_id)
        if row is None:
            raise no_payment()
        return row

    def _set_status(self, payment_id: str, status: str) -> None:
        self._store.run("update payments set status = ?, truth = ? where payment_id = ?", status, status, payment_id)

    def _authorised(self, call: Call, payment_id: str) -> Row:
        """The payment, for the holder of the API key or of its own client secret."""
        row = self._found(payment_id)
        given = call.params.get("client_secret") or call.query.get("client_secret")
        if given is None:
            trusted(call)
        elif not hmac.compare_digest(str(given).encode(), str(row["client_secret"]).encode()):
            raise bad_client_secret()
        return row

    def retrieve(self, call: Call, payment_id: str) -> Reply:
        row = self._authorised(call, payment_id)
        if call.query.get("force_sync") == "true" and row["truth"] != row["status"]:
            self._book.settle(row, row["truth"])
        return Reply.json(self._book.payment_object(payment_id))

    def confirm(self, call: Call, payment_id: str) -> Reply:
        known(call.params, {*PAYMENT_REQUEST, "client_secret"})
        row = self._authorised(call, payment_id)
        if row["status"] not in OPEN:
            raise unexpected_state("confirm", row["status"], ", ".join(OPEN))
        self._confirm(row, call.params)
        return Reply.json(self._book.payment_object(payment_id))

    def _confirm(self, row: Row, params: Object) -> None:
        if params.get("payment_method") is None:
            raise missing_field("payment_method")
        if DECLINED_CARD in to_json(params.get("payment_method_data")):
            self._book.settle(row, "failed")
        else:
            self._book.settle(row, "requires_capture" if row["capture_method"] == "manual" else "succeeded")

    def cancel(self, call: Call, payment_id: str) -> Reply:
        trusted(call)
        known(call.params, {"cancellation_reason", "merchant_connector_details"})
        row = self._found(payment_id)
        if row["status"] not in CANCELLABLE or row["truth"] in CAPTURED:
            raise unexpected_state("cancelled", row["status"], ", ".join(CANCELLABLE))
        self._book.settle(row, "cancelled", cancellation=string(call.params, "cancellation_reason", 255))
        return Reply.json(self._book.payment_object(payment_id))

    def create_refund(self, call: Call, _: str) -> Reply:
        trusted(call)
        known(call.params, REFUND_REQUEST)
        if not isinstance(call.params.get("payment_id"), str):
            raise missing_field("payment_id")
        refund_id = chosen_id(call.params, "refund_id", "ref_")
        if self._book.refund(refund_id) is not None:
            raise duplicate_refund()
        payment = self._found(str(call.params["payment_id"]))
        if payment["status"] not in CAPTURED:
            raise unexpected_state("refund", payment["status"], ", ".join(CAPTURED))
        left = int(payment["amount"]) - self._book.refunded(payment["payment_id"])
        wanted = integer(call.params, "amount")
        amount = left if wanted is None else wanted
        if amount > left or left == 0:
            raise exceeds_captured()
        if amount == 0:
            raise bad_data("amount must be positive")
        self._add_refund(call, payment, refund_id, amount)
        return Reply.json(self._book.refund_object(refund_id))

    def _add_refund(self, call: Call, payment: Row, refund_id: str, amount: int) -> None:
        now = time.time()
        self._store.insert(
            "refunds",
            {
                "refund_id": refund_id,
                "payment_id": payment["payment_id"],
                "amount": amount,
                "currency": payment["currency"],
                "status": "pending",
                "reason": string(call.params, "reason", 255),
                "metadata": mapping(call.params, "metadata"),
                "created": now,
                "updated": now,
            },
        )
        outcome = (call.outcome or "refund_succeeded").removeprefix("refund_")
        row = self._book.refund(refund_id)
        if row is not None and outcome != "pending":
            self._book.settle_refund(row, outcome)

    def retrieve_refund(self, call: Call, refund_id: str) -> Reply:
        trusted(call)
        if self._book.refund(refund_id) is None:
            raise no_refund()
        return Reply.json(self._book.refund_object(refund_id))


def trusted(call: Call) -> None:
    if not call.trusted:
        raise Refused(unauthorized())


def known(params: Object, accepted: set[str]) -> None:
    unknown = sorted(set(params) - accepted)
    if unknown:
        raise bad_data(f"Json deserialize error: unknown field `{unknown[0]}`")


def chosen_id(params: Object, name: str, prefix: str) -> str:
    given = params.get(name)
    if given is None:
        return new_id(prefix, ID_LENGTH - len(prefix))
    if not isinstance(given, str) or len(given) != ID_LENGTH or not re.fullmatch(r"[A-Za-z0-9_-]+", given):
        raise bad_format(name, f"an id of exactly {ID_LENGTH} letters, digits, _ and -")
    return given


def integer(params: Object, name: str) -> int | None:
    value = params.get(name)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= LARGEST:
        raise bad_format(name, "a non-negative integer")
    return value


def required_amount(params: Object) -> int:
    amount = integer(params, "amount")
    if amount is None:
        raise missing_field("amount")
    return amount


def currency(params: Object) -> str:
    value = params.get("currency")
    if value is None:
        raise missing_field("currency")
    if not isinstance(value, str) or not re.fullmatch(r"[A-Z]{3}", value):
        raise bad_format("currency", "a three-letter ISO 4217 code in capitals")
    return value


def string(params: Object, name: str, longest: int) -> str | None:
    value = params.get(name)
    if value is None:
        return None
    if not isinstance(value, str) or len(value) > longest:
        raise bad_format(name, f"a string of at most {longest} characters")
    return value


def customer(params: Object) -> str | None:
    value = string(params, "customer_id", 64)
    if value == "":
        raise bad_format("customer_id", "a string of 1 to 64 characters")
    return value


def mapping(params: Object, name: str) -> str | None:
    value = params.get(name)
    if value is None:
        return None
    if not isinstance(value, dict):
        raise bad_format(name, "an object")
    return to_json(value)


def one_of(params: Object, name: str, choices: tuple[str, ...], default: str) -> str:
    value = params.get(name, default) or default
    if value not in choices:
        raise bad_format(name, " or ".join(choices))
    return str(value)
