"""Idempotency keys: a client's name for one request, kept for 24 hours, so that repeating it does nothing twice."""

from __future__ import annotations

from datetime import timedelta
from typing import Final
from uuid import UUID

from veza.domain.errors import Conflict
from veza.domain.orders import IdempotencyKey
from veza.store.bridge import Transaction

KEY_LIFETIME: Final = timedelta(hours=24)  # what clients are promised

RESERVE: Final = """
INSERT INTO idempotency_keys (user_id, route, key, body_sha256, resource_id, in_flight_until)
VALUES ($1, $2, $3, $4, $5, now() + $6::interval)
ON CONFLICT (user_id, route, key) DO UPDATE
    SET body_sha256 = excluded.body_sha256, resource_id = excluded.resource_id,
        in_flight_until = excluded.in_flight_until, created_at = now()
    WHERE idempotency_keys.created_at < now() - $7::interval
RETURNING resource_id
"""

HELD: Final = "SELECT body_sha256 FROM idempotency_keys WHERE user_id = $1 AND route = $2 AND key = $3 FOR UPDATE"


async def reserve(
    tx: Transaction, user_id: UUID, route: str, key: IdempotencyKey, resource_id: UUID, in_flight: timedelta
) -> bool:
    """Take a key that nobody used in the last 24 hours; false if it was used, by the same request.

    A second request waits here until the first has committed. Raises Conflict for a key that came with another body.
    """
    args = (user_id, route, key.key, key.body_sha256, resource_id, in_flight, KEY_LIFETIME)
    if await tx.fetchval(RESERVE, *args) is not None:
        return True
    if await tx.fetchval(HELD, user_id, route, key.key) != key.body_sha256:
        raise Conflict("This Idempotency-Key came with another request.", code="idempotency_key_reused")
    return False
