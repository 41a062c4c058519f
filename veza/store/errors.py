"""What a store call can end in besides its answer; the floors above see these and never the driver's own.

Constraint violations stay the driver's: only the query that can cause one knows what it means, and turns it into a
domain refusal in its own module.
"""

from __future__ import annotations

UNREADABLE = "DATABASE_URL is not of the form postgresql://user:password@host:port/name"


class StoreError(Exception):
    """Base of what the bridge raises by itself."""


class DatabaseUnavailable(StoreError):  # noqa: N818 - named for what the caller learns
    """Nothing was changed: the server is away, the connection broke before COMMIT, or none came free in time."""


class TryAgain(StoreError):  # noqa: N818 - named for what the caller learns
    """Nothing was changed: the transaction lost a deadlock or a serialization conflict. The same call may succeed."""


class NotCommitted(StoreError):  # noqa: N818 - named for what the caller learns
    """Nothing was changed: the body swallowed a failed statement, and the server turned COMMIT into ROLLBACK."""


class OutcomeUnknown(StoreError):  # noqa: N818 - named for what the caller learns
    """COMMIT was sent and its answer never came: the changes may stand or not. Ask again under the same key."""
