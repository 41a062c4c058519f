"""Links to local objects: a signed URL of our own that says what it is of, by what name, and until when.

What S3 calls a presigned URL, for objects that have no S3. The signed part is a JSON Web Token (RFC 7519) under a key
of its own, so that no other token passes for one.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import jwt

from veza.domain.errors import Forbidden, NotFound
from veza.domain.ids import Clock

ALGORITHM: Final = "HS256"
PURPOSE: Final = b"veza object link"
PATH: Final = "/api/v1/objects/"


@dataclass(frozen=True)
class Linked:
    """What a link is of, and as what it is to be sent."""

    key: str
    filename: str
    content_type: str


class Links:
    """Signs and reads links by a passed clock. The key is derived from ``secret`` for this purpose alone."""

    def __init__(self, secret: bytes, base_url: str, now: Clock) -> None:
        self._key = hmac.digest(secret, PURPOSE, "sha256")
        self._prefix = base_url + PATH
        self._now = now
        self._jwt = jwt.PyJWT({"verify_exp": False})  # by the wall clock; `read` goes by ours

    def sign(self, key: str, *, filename: str, content_type: str, until: datetime) -> str:
        """The URL that fetches the object until then."""
        told = {"key": key, "name": filename, "type": content_type, "exp": int(until.timestamp())}
        return self._prefix + self._jwt.encode(told, self._key, ALGORITHM)

    def read(self, token: str) -> Linked:
        """What a link's last part stands for. Raises NotFound unless we signed it, Forbidden once it has expired."""
        try:
            told = self._jwt.decode(token, self._key, [ALGORITHM], {"require": ["key", "name", "type", "exp"]})
        except (jwt.InvalidTokenError, ValueError):
            raise NotFound("There is no such link.") from None
        if self._now().timestamp() >= told["exp"]:
            raise Forbidden("This link has expired.", code="link_expired")
        return Linked(told["key"], told["name"], told["type"])
