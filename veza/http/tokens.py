"""Access, refresh and console tokens: JSON Web Tokens (RFC 7519) signed with HMAC-SHA256, each saying which it is.

A token only names a session. Whether that session still lives, and what its user may do, the database says. What is
sealed is no token: it is content that a browser keeps for us, signed by the same key (RFC 7515).
"""

from __future__ import annotations

import hmac
import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from hashlib import sha256
from typing import Any, Final
from uuid import UUID

import jwt

from veza.domain.accounts import Session
from veza.domain.errors import Unauthenticated
from veza.domain.ids import Clock, NewId

ACCESS_LIFETIME: Final = timedelta(hours=1)
CONSOLE_LIFETIME: Final = timedelta(hours=12)
"""A working day: an operator's console is not refreshed, it is signed in to again."""

ALGORITHM: Final = "HS256"
MIN_KEY_BYTES: Final = 32  # no shorter than the hash (RFC 7518, section 3.2)
CLAIMS: Final = ("type", "sub", "sid", "jti", "iat", "exp")
SEALED: Final = "sealed"  # the type that no token has


class TokenType(StrEnum):
    ACCESS = "access"
    REFRESH = "refresh"
    CONSOLE = "console"


@dataclass(frozen=True)
class Claims:
    """What a token of ours says."""

    type: TokenType
    user_id: UUID
    session_id: UUID
    token_id: UUID
    expires_at: datetime


class Tokens:
    """Signs and reads tokens by a passed clock."""

    def __init__(self, key: bytes, now: Clock, new_id: NewId) -> None:
        if len(key) < MIN_KEY_BYTES:
            raise ValueError(f"the key of the tokens has to have at least {MIN_KEY_BYTES} bytes")
        self._key = key
        self._now = now
        self._new_id = new_id
        # The wall clock of the library must not judge what our clock wrote; `read` judges instead.
        self._jwt = jwt.PyJWT({"verify_exp": False, "verify_iat": False, "verify_nbf": False})
        self._jws = jwt.PyJWS()

    def access(self, session: Session) -> str:
        """A token for requests, good for ACCESS_LIFETIME while its session lives."""
        return self._sign(TokenType.ACCESS, session, self._new_id(), self._now() + ACCESS_LIFETIME)

    def refresh(self, session: Session) -> str:
        """The session's one good refresh token."""
        return self._sign(TokenType.REFRESH, session, session.refresh_id, session.expires_at)

    def console(self, session: Session) -> str:
        """A token for the console's cookie, good for CONSOLE_LIFETIME while its session lives."""
        return self._sign(TokenType.CONSOLE, session, self._new_id(), self._now() + CONSOLE_LIFETIME)

    def form_key(self, session_id: UUID) -> str:
        """What forms of the console carry: known to pages of this session alone (OWASP: HMAC-based token pattern)."""
        return hmac.new(self._key, b"form:" + session_id.bytes, sha256).hexdigest()

    def is_form_key(self, given: str, session_id: UUID) -> bool:
        return hmac.compare_digest(given.encode(), self.form_key(session_id).encode())

    def sealed(self, content: object, reader: UUID | None, lifetime: timedelta) -> str:
        """What can be written as JSON, for `opened`: good for one user, or for whoever is not signed in. Not secret."""
        told = {
            "type": SEALED,
            "sub": None if reader is None else str(reader),
            "exp": int((self._now() + lifetime).timestamp()),
            "content": content,
        }
        text = json.dumps(told, ensure_ascii=False, separators=(",", ":"))  # a cookie has little room
        return self._jws.encode(text.encode(), self._key, ALGORITHM)

    def opened(self, sealed: str, reader: UUID | None) -> object | None:
        """What was sealed for them; None if it was not, or is too old."""
        try:
            told = json.loads(self._jws.decode(sealed, self._key, [ALGORITHM]))
        except (jwt.InvalidTokenError, ValueError):
            return None
        ours = isinstance(told, dict) and told.get("type") == SEALED
        if not ours or told["sub"] != (None if reader is None else str(reader)):
            return None
        content: object = told["content"] if self._now().timestamp() < told["exp"] else None
        return content

    def read(self, token: str, wanted: TokenType, *, expired: bool = False) -> Claims:
        """What the token says. Raises Unauthenticated unless we signed it, as one of that type, and it has not expired.

        ``expired`` lets an expired one through: enough to sign out with.
        """
        claims = self._verified(token)
        if claims is None or claims.type is not wanted:
            raise Unauthenticated(f"The {wanted} token is not valid.", code="invalid_token")
        if not expired and self._now() >= claims.expires_at:
            raise Unauthenticated(f"The {wanted} token has expired.", code="token_expired")
        return claims

    def _sign(self, kind: TokenType, session: Session, token_id: UUID, expires_at: datetime) -> str:
        claims = {
            "type": kind,
            "sub": str(session.user_id),
            "sid": str(session.id),
            "jti": str(token_id),
            "iat": int(self._now().timestamp()),
            "exp": int(expires_at.timestamp()),
        }
        return self._jwt.encode(claims, self._key, ALGORITHM)

    def _verified(self, token: str) -> Claims | None:
        try:
            # The algorithm is ours to choose: what the token's own header says of it must not matter.
            told: dict[str, Any] = self._jwt.decode(token, self._key, [ALGORITHM], {"require": list(CLAIMS)})
            return Claims(
                type=TokenType(told["type"]),
                user_id=UUID(told["sub"]),
                session_id=UUID(told["sid"]),
                token_id=UUID(told["jti"]),
                expires_at=datetime.fromtimestamp(told["exp"], UTC),
            )
        except (jwt.InvalidTokenError, ValueError, TypeError, AttributeError, OverflowError):
            return None
