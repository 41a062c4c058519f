"""Stripe's refusals, in Stripe's body shape: ``{"error": {"type", "code"?, "param"?, "message", "doc_url"?}}``."""

from __future__ import annotations

from veza.sandbox.desk import Refused, Reply
from veza.sandbox.store import Object

DOCS = "https://stripe.com/docs/error-codes/"


def error(
    status: int,
    message: str,
    *,
    kind: str = "invalid_request_error",
    code: str | None = None,
    param: str | None = None,
) -> Reply:
    body: Object = {"message": message, "type": kind}
    if code is not None:
        body |= {"code": code, "doc_url": DOCS + code.replace("_", "-")}
    if param is not None:
        body["param"] = param
    return Reply.json({"error": body}, status)


def invalid(message: str, code: str | None, param: str | None) -> Refused:
    """A validation failure: the endpoint had not begun, so nothing is stored under the key."""
    return Refused(error(400, message, code=code, param=param), begun=False)


def missing_param(param: str) -> Refused:
    return invalid(f"Missing required param: {param}.", "parameter_missing", param)


def unknown_param(param: str) -> Refused:
    return invalid(f"Received unknown parameter: {param}", "parameter_unknown", param)


def no_such(what: str, name: str, param: str, status: int = 404) -> Reply:
    return error(status, f"No such {what}: '{name}'", code="resource_missing", param=param)


def balance_insufficient() -> Reply:
    message = (
        "You have insufficient available funds in your Stripe account to cover this amount. Try again "
        "once pending funds have become available."
    )
    return error(400, message, code="balance_insufficient")


def insufficient_capabilities() -> Reply:
    message = "The destination account needs an active capability that receives transfers: transfers."
    return error(400, message, code="insufficient_capabilities_for_transfer")


def account_invalid(account: str) -> Reply:
    message = f"The provided key does not have access to account '{account}' (or that account does not exist)."
    return error(403, message, code="account_invalid")


def key_in_use(key: str | None) -> Reply:
    message = f"Another request with the idempotency key '{key}' is in progress."
    return error(409, message, code="idempotency_key_in_use")


def key_with_other_parameters(key: str | None) -> Reply:
    message = (
        "Keys for idempotent requests can only be used with the same parameters they were first used with. "
        f"Use a key other than '{key}' to execute a different request."
    )
    return error(400, message, kind="idempotency_error")


def unauthorized(given: str | None) -> Reply:
    if not given:
        return error(401, "You did not provide an API key.")
    return error(401, f"Invalid API Key provided: {given[:8]}***")


def not_permitted() -> Reply:
    return error(403, "The provided key does not have the required permissions for this endpoint.")


def rate_limited() -> Reply:
    return error(429, "Request rate limit exceeded.", code="rate_limit")


def server_error() -> Reply:
    return error(500, "An error occurred on the provider's side.", kind="api_error")


def unavailable() -> Reply:
    return error(503, "The service is temporarily unavailable.", kind="api_error")
