"""Stream keys: what an encoder shows to publish. Derived from the stream and a version, so that none is ever stored.

A key is ``sk_<key id>_<mac>``: the key id is the stream's id and the key's version, the mac says that we made it. So a
forged key is told from a real one, one that was replaced included, before anything is looked up.
"""

from __future__ import annotations

import hmac
import re
from base64 import b32decode, b32encode
from dataclasses import dataclass
from typing import Final
from uuid import UUID

MAC_BYTES: Final = 20  # more than half of SHA-256's 32, as RFC 2104 (section 5) wants; and no padding in base32
VERSION_BYTES: Final = 4  # with the id's 16 that is 20 again
KEY: Final = re.compile(r"sk_([a-z2-7]{32})_([a-z2-7]{32})", re.ASCII)
PURPOSE: Final = b"veza stream key"


@dataclass(frozen=True)
class KeyClaim:
    """A key that we made: of which stream, and which of its keys. Only the newest version may publish."""

    stream_id: UUID
    version: int


class StreamKeys:
    """Makes and reads keys under one secret: whoever changes it replaces every key there is.

    Raises ValueError for none: anyone could make keys.
    """

    def __init__(self, secret: bytes) -> None:
        if not secret:
            raise ValueError("stream keys need a secret")
        self._secret = secret

    def key(self, stream_id: UUID, version: int) -> str:
        key_id = stream_id.bytes + version.to_bytes(VERSION_BYTES)
        return f"sk_{_text(key_id)}_{_text(self._mac(key_id))}"

    def read(self, key: str) -> KeyClaim | None:
        """What a key claims, compared in constant time; None for one that we didn't make."""
        parts = KEY.fullmatch(key)
        if parts is None:
            return None
        key_id, mac = (b32decode(part, casefold=True) for part in parts.groups())
        if not hmac.compare_digest(mac, self._mac(key_id)):
            return None
        return KeyClaim(UUID(bytes=key_id[:-VERSION_BYTES]), int.from_bytes(key_id[-VERSION_BYTES:]))

    def _mac(self, key_id: bytes) -> bytes:
        return hmac.digest(self._secret, PURPOSE + key_id, "sha256")[:MAC_BYTES]


def _text(raw: bytes) -> str:
    return b32encode(raw).decode().lower()
