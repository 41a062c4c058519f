"""By which codes the API says no, what each means, and which of them a route says.

Each code has one status and one meaning, here; the sentence of an answer is about the case in hand. What follows from
how a route is called (its token, its body, the ids in its path) it need not say; the rest it does, by ``refuses``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, TypeVar

from veza.domain.erasure import WHAT_TO_DO

MEANINGS: Final[Mapping[int, Mapping[str, str]]] = {
    400: {
        "invalid": "Something that was sent is missing or not valid; `details` says what.",
        "bad_request": "The body can't be read as what its type says.",
        "invalid_state": "The state is not one of ours.",
        "state_expired": "The state has expired; begin anew.",
    },
    401: {
        "unauthenticated": "Nothing was sent that says who is asking.",
        "invalid_token": "The token is none of ours, or not of this kind.",
        "token_expired": "The token has expired.",
        "session_over": "The token's session is over: it was ended, or its user was banned.",
        "invalid_credentials": "The email or the password is wrong.",
        "ticket_invalid": "The ticket was used, or has expired.",
        "bad_signature": "The signature does not match the body.",
    },
    403: {
        "forbidden": "It is not the caller's, or not theirs to do.",
        "banned": "The account is banned; `details` says until when, and why.",
        "feature_disabled": "This is switched off at the moment.",
        "not_bought": "Only who bought it may.",
        "key_revoked": "The stream key is none that holds.",
        "link_expired": "The link has expired.",
    },
    404: {"not_found": "There is no such thing, or the caller may not know of it."},
    408: {"request_timeout": "The body took too long to arrive."},
    409: {
        "conflict": "It does not go with how things stand; `error` says why.",
        "username_taken": "Somebody has this username, in whatever case.",
        "email_taken": "Somebody has this email.",
        "password_changed": "The password was changed meanwhile.",
        "own_account": "It is the caller's own account.",
        "not_banned": "The account is not banned.",
        **{str(each): sentence for each, sentence in WHAT_TO_DO.items()},
        "last_admin": "It is the last admin: make somebody else one first.",
        "no_deliverable": "There is no file yet that buyers would get.",
        "sold": "The product was sold: its files stay for those who bought them.",
        "last_deliverable": "What is on sale keeps its last file.",
        "own_product": "It is the caller's own product.",
        "not_on_sale": "Something in the cart is not on sale.",
        "total_changed": "The total is not the one that was expected.",
        "idempotency_key_reused": "The Idempotency-Key came with another request before.",
        "idempotency_in_flight": "The first request with this Idempotency-Key is still in hand.",
        "payment_refused": "The payment provider refuses this order.",
        "payment_to_examine": "The payment came, but not as it should have.",
        "not_cancellable": "It is too late to cancel.",
        "not_paid": "The order is not paid.",
        "refunded": "It was refunded.",
        "disputed": "The buyer's bank disputes the payment.",
        "no_credit_note": "Nothing was paid back by this refund.",
        "refund_window_over": "It is too late for the buyer to ask.",
        "nothing_to_refund": "Nothing is left that could be given back.",
        "exceeds_refundable": "It is more than is left.",
        "already_requested": "What is left is asked for already.",
        "too_many_refunds": "The order has had as many refunds as it may.",
        "not_requested": "There is nothing to decide.",
        "already_reviewed": "The caller has reviewed it already.",
        "own_content": "It is the caller's own.",
        "already_decided": "It was decided before.",
        "not_retryable": "It neither failed nor waits for what a retry could bring.",
        "not_holdable": "It is being tried, or over.",
        "not_releasable": "It is not held by an admin.",
        "not_live": "The stream is off air.",
        "already_publishing": "The stream has a publisher.",
        "gpc_signal": "The request's own `Sec-GPC: 1` says otherwise.",
        "too_many_streams": "The caller has as many streams as one may.",
        "too_many_files": "The caller has as many files as one may.",
        "too_many_versions": "The file has as many snapshots as it may; delete one first.",
        "too_many_shares": "The file has as many links as it may; revoke one first.",
        "too_much_gear": "The caller has as many items as one may.",
        "too_many_repairs": "The item has as many repairs as it may.",
        "too_many_documents": "The item has as many documents as it may.",
    },
    412: {"precondition_failed": "It is at another version than `If-Match` names."},
    413: {
        "too_large": "It is larger than what is taken.",
        "quota_exceeded": "It is more than what is left of the caller's quota.",
    },
    415: {"unsupported_media_type": "The body is of a type that is not taken."},
    416: {"range_not_satisfiable": "The range lies outside the file."},
    428: {"precondition_required": "It takes an `If-Match`."},
    429: {
        "rate_limited": "Too many requests.",
        "too_many_attempts": "Too many of them were wrong.",
        "too_many_requests": "There were enough of these for now.",
    },
    500: {"internal": "Something went wrong on our side."},
    503: {
        "overloaded": "Too much is waiting to be done.",
        "deadline_exceeded": "It took too long; it may or may not have been done.",
        "stopped": "This part of the service is stopping.",
        "database_unavailable": "The database can't be reached.",
        "try_again": "Someone changed the same thing at the same time.",
        "outcome_unknown": "It may or may not have been done; ask again.",
        "maintenance": "Maintenance is under way: only admins are served.",
        "unavailable": "Something that this needs is away.",
        "storage_full": "There is no room for the file.",
        "storage_unavailable": "Files can't be reached.",
        "provider_unavailable": "The payout provider can't be reached.",
        "provider_refused": "The payout provider opened no account.",
        "payment_unavailable": "The payment provider can't be reached.",
        "payments_not_configured": "Payments are not set up here.",
        "payouts_not_configured": "Payouts are not set up here.",
        "live_not_configured": "Live streaming is not set up here.",
    },
}

STATUS_OF: Final[Mapping[str, int]] = {code: status for status, codes in MEANINGS.items() for code in codes}

OF_A_TOKEN: Final = ("invalid_token", "token_expired", "session_over")
OF_THE_SIGNED_IN: Final = ("unauthenticated", *OF_A_TOKEN)

ANYWHERE: Final = ("invalid", "internal")
"""NUL characters are refused wherever they are, and a surprise is a surprise."""

AT_WORK: Final = (
    "overloaded",
    "deadline_exceeded",
    "stopped",
    "database_unavailable",
    "try_again",
    "outcome_unknown",
    "unavailable",
)
"""Of whatever does more than say how it is."""

OF_A_BODY: Final = ("bad_request", "request_timeout", "too_large", "unsupported_media_type")
OF_FILES: Final = ("storage_full", "storage_unavailable")

_ATTRIBUTE: Final = "_veza_refuses"

View = TypeVar("View", bound=Callable[..., Any])


def refuses(*codes: str) -> Callable[[View], View]:
    """Document by which codes of ``MEANINGS`` a route says no. Raises KeyError for one that is not there."""
    unknown = [code for code in codes if code not in STATUS_OF]
    if unknown:
        raise KeyError(*unknown)

    def document(view: View) -> View:
        setattr(view, _ATTRIBUTE, refused_by(view) | set(codes))
        return view

    return document


def refused_by(view: Callable[..., Any]) -> frozenset[str]:
    """What was documented so of a route."""
    found: Iterable[str] = getattr(view, _ATTRIBUTE, ())
    return frozenset(found)


def by_status(codes: Iterable[str]) -> dict[int, list[str]]:
    """The same, by status, in the order of ``MEANINGS``."""
    wanted = set(codes)
    found = {status: [code for code in meanings if code in wanted] for status, meanings in MEANINGS.items()}
    return {status: told for status, told in found.items() if told}
