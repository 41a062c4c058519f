"""The state that a seller's browser carries to the payout provider and back: who they are, signed and soon over.

A browser comes back without a bearer token, and an account's id in its address would let anyone who knows one act for
its owner. The state is a JSON Web Token (RFC 7519) under a key of its own, so that no other token passes for one.
"""

from __future__ import annotations

import hmac
from datetime import timedelta
from typing import Final
from uuid import UUID

import jwt

from veza.domain.errors import Invalid
from veza.domain.ids import Clock
from veza.http.tokens import ALGORITHM

LIFETIME: Final = timedelta(hours=2)  # proving who one is takes a while; and it can do no more than begin that anew
PURPOSE: Final = b"veza connect state"


class States:
    """Signs and reads states by a passed clock. The key is derived from ``secret`` for this purpose alone."""

    def __init__(self, secret: bytes, now: Clock) -> None:
        self._key = hmac.digest(secret, PURPOSE, "sha256")
        self._now = now
        self._jwt = jwt.PyJWT({"verify_exp": False, "verify_iat": False})  # by the wall clock; `read` goes by ours

    def sign(self, user_id: UUID) -> str:
        expires_at = self._now() + LIFETIME
        return self._jwt.encode({"sub": str(user_id), "exp": int(expires_at.timestamp())}, self._key, ALGORITHM)

    def read(self, state: str) -> UUID:
        """Whose state it is. Raises Invalid unless we signed it within its lifetime."""
        try:
            told = self._jwt.decode(state, self._key, [ALGORITHM], {"require": ["sub", "exp"]})
            user_id, expires_at = UUID(told["sub"]), float(told["exp"])
        except (jwt.InvalidTokenError, ValueError, TypeError, AttributeError):
            raise Invalid("The state is not valid.", code="invalid_state", field="state") from None
        if self._now().timestamp() >= expires_at:
            raise Invalid("The state has expired; begin anew.", code="state_expired", field="state")
        return user_id
