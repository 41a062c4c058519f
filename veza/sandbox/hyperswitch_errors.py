"""Hyperswitch's refusals: ``{"error": {"type", "message", "code"}}``, with its codes and statuses.

Codes and statuses: juspay/hyperswitch, crates/hyperswitch_domain_models/src/errors/api_error_response.rs and
crates/api_models/src/errors/types.rs.
"""

from __future__ import annotations

from veza.sandbox.desk import Refused, Reply
from veza.sandbox.store import Object


def error(status: int, code: str, message: str, *, kind: str = "invalid_request", reason: str | None = None) -> Reply:
    body: Object = {"type": kind, "message": message, "code": code}
    if reason is not None:
        body["reason"] = reason
    return Reply.json({"error": body}, status)


def unauthorized() -> Reply:
    return error(401, "IR_01", "API key not provided or invalid API key used")


def missing_field(name: str) -> Refused:
    return Refused(error(400, "IR_04", f"Missing required param: {name}"))


def bad_format(name: str, expected: str) -> Refused:
    return Refused(error(422, "IR_05", f"{name} contains invalid data. Expected format is {expected}"))


def bad_data(message: str) -> Refused:
    return Refused(error(422, "IR_06", message))


def bad_client_secret() -> Refused:
    message = "The client_secret provided does not match the client_secret associated with the Payment"
    return Refused(error(400, "IR_09", message))


def duplicate_payment(payment_id: str) -> Refused:
    message = "The payment with the specified payment_id already exists in our records"
    return Refused(error(400, "HE_01", message, reason=f"{payment_id} already exists"))


def duplicate_refund() -> Refused:
    return Refused(error(400, "HE_01", "Duplicate refund request. Refund already attempted with the refund ID"))


def no_payment() -> Refused:
    return Refused(error(404, "HE_02", "Payment does not exist in our records"))


def no_refund() -> Refused:
    return Refused(error(404, "HE_02", "Refund does not exist in our records."))


def no_dispute() -> Refused:
    return Refused(error(404, "HE_04", "Dispute does not exist in our records"))


def exceeds_captured() -> Refused:
    return Refused(error(400, "IR_13", "The refund amount exceeds the amount captured"))


def unexpected_state(flow: str, status: str, states: str) -> Refused:
    message = f"This Payment could not be {flow} because it has a status of {status}. The expected state is {states}"
    return Refused(error(400, "IR_14", message))


def server_error() -> Reply:
    return error(500, "HE_00", "Something went wrong", kind="api")
