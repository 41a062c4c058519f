"""Hyperswitch's events: which are genuine, and what they are about. Nothing else is believed of them.

Headers and bodies: juspay/hyperswitch, crates/router/src/core/webhooks and crates/api_models/src/webhooks.rs.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from pydantic import TypeAdapter

SIGNATURE_HEADERS: Final[Mapping[str, Mapping[int, str]]] = {
    "X-Webhook-Signature-512": {128: "sha512"},
    "X-Hyperswitch-Signature": {128: "sha512", 64: "sha256"},  # the API reference's own
}
"""For each header the MAC's hash, by the number of its hexadecimal digits."""

LONGEST: Final = 255  # characters of an id or a type that is kept as it is


@dataclass(frozen=True)
class Event:
    """A verified event. ``event_id`` is the sender's, or the body's hash where it gives none.

    The ids are of the payment it is about, and of that payment's refund or dispute if it is about one.
    """

    event_id: str
    event_type: str
    payment_id: str | None
    refund_id: str | None = None
    dispute_id: str | None = None


def is_signed(body: bytes, signatures: Mapping[str, str], secrets: Sequence[str]) -> bool:
    """Whether one of ``signatures``, by header, is the MAC of exactly these bytes under one of the secrets.

    Compared in constant time. There is no check of freshness: the provider resends the same bytes for a day.
    """
    return any(
        _matches(signature, body, secrets, digits[len(signature)])
        for header, signature in signatures.items()
        if len(signature) in (digits := SIGNATURE_HEADERS.get(header, {}))
    )


def _matches(signature: str, body: bytes, secrets: Sequence[str], mac: str) -> bool:
    seen = signature.lower().encode()
    wanted = [hmac.new(secret.encode(), body, mac).hexdigest().encode() for secret in secrets if secret]
    return sum(hmac.compare_digest(seen, each) for each in wanted) > 0  # every one: the time tells nothing of which


def read_event(body: bytes) -> Event:
    """What a verified body says. Fields that are missing or not understood count for nothing.

    Raises ValueError for what is no JSON object.
    """
    fields = _OBJECT.validate_json(body)
    event_id = _text(fields.get("event_id")) or f"sha256:{hashlib.sha256(body).hexdigest()}"
    kind = _text(fields.get("event_type")) or _text(fields.get("event")) or "unknown"
    about = (_id(fields, name) for name in ("payment_id", "refund_id", "dispute_id"))
    return Event(event_id, kind.replace(".", "_"), *about)


_OBJECT = TypeAdapter(dict[str, object])


def _id(fields: Mapping[str, object], name: str) -> str | None:
    for path in ((name,), ("data", name), ("content", "object", name)):
        value: object = fields
        for step in path:
            value = value.get(step) if isinstance(value, dict) else None
        if (found := _text(value)) is not None:
            return found
    return None


def _text(value: object) -> str | None:
    """Text that a row can hold and an index can find."""
    usable = isinstance(value, str) and 0 < len(value) <= LONGEST and "\0" not in value
    return value if usable and isinstance(value, str) else None
