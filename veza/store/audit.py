"""The audit of money and admin actions: each row is written in the transaction of what it tells of."""

from __future__ import annotations

import json
from collections.abc import Mapping
from uuid import UUID

from veza.domain.audit import By
from veza.store.bridge import Transaction


async def write(
    tx: Transaction, entry_id: UUID, by: By, action: str, resource: str, details: Mapping[str, object]
) -> None:
    """Write one row. ``details`` must hold no secret and no personal data beyond identifiers."""
    await tx.execute(
        "INSERT INTO audit_entries (id, actor_id, action, resource, request_id, address, details)"
        " VALUES ($1, $2, $3, $4, $5, $6, $7)",
        entry_id,
        by.user_id,
        action,
        resource,
        by.request_id,
        by.address,
        json.dumps(details, default=str),
    )
