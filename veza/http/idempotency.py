"""The Idempotency-Key header: a client's name for one request."""

from __future__ import annotations

from hashlib import sha256

from pydantic import BaseModel
from quart import request

from veza.domain.errors import Invalid
from veza.domain.orders import IdempotencyKey

KEY_LENGTH = 255  # as long as Stripe's; a UUID has 36


def idempotency_key(data: BaseModel, *, about: object = "") -> IdempotencyKey | None:
    """The request's key with what it names: the body, and ``about``, which of the path is part of the request.

    Raises Invalid for a key that is none.
    """
    key = request.headers.get("Idempotency-Key")
    if key is None:
        return None
    if not (1 <= len(key) <= KEY_LENGTH and key.isprintable()):
        raise Invalid(f"An Idempotency-Key has 1 to {KEY_LENGTH} printable characters.", field="Idempotency-Key")
    # Of what was understood, not of its bytes: spaces and the order of fields make no other request.
    return IdempotencyKey(key, sha256(f"{about}{data.model_dump_json()}".encode()).digest())
