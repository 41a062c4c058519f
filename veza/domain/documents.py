"""Documents of gear: papers and pictures, each of a format that its bytes show and its sender does not deny."""

from __future__ import annotations

import re
from codecs import getincrementaldecoder
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final
from uuid import UUID

from veza.domain.errors import Conflict, Invalid, NotFound

MAX_BYTES: Final = 25 * 1024 * 1024  # a scanned manual of some two hundred pages
MAX_DOCUMENTS: Final = 50  # of one item

PLAIN_TEXT: Final = "text/plain"
UNSAID: Final = ("", "application/octet-stream")  # what clients send that do not know, and what no claim reads as
ALIASES: Final = {"image/jpg": "image/jpeg", "image/pjpeg": "image/jpeg", "application/x-pdf": "application/pdf"}

HEAD_BYTES: Final = 12  # enough of a file to tell what it is

# The first bytes of each format and, for WebP, those after the length (ISO 32000-2, 7.5.2; RFC 9649; the PNG and JPEG
# specifications). Plain text has none: see `Text`.
SIGNATURES: Final = {
    "application/pdf": (b"%PDF-", b""),
    "image/jpeg": (b"\xff\xd8\xff", b""),
    "image/png": (b"\x89PNG\r\n\x1a\n", b""),
    "image/webp": (b"RIFF", b"WEBP"),
}
BINARY: Final = re.compile(rb"[\x00-\x08\x0b\x0e-\x1f\x7f]")


class DocumentType(StrEnum):
    """What a document is to its owner."""

    INVOICE = "invoice"
    MANUAL = "manual"
    WARRANTY = "warranty"
    PHOTO = "photo"
    OTHER = "other"


@dataclass(frozen=True)
class Document:
    """``object_key`` names the bytes to the objects gateway; ``content_type`` is what they are, not a claim."""

    id: UUID
    gear_id: UUID
    type: DocumentType
    object_key: str
    filename: str
    content_type: str
    size_bytes: int
    created_at: datetime


def type_of(name: str | None) -> DocumentType:
    """The type by its name. Raises Invalid for none, or one there is not."""
    try:
        return DocumentType(name or "")
    except ValueError:
        raise Invalid(f"A document's type is one of these: {', '.join(DocumentType)}.", field="type") from None


def format_of(head: bytes, claim: str) -> str | None:
    """The content type of a file by its first HEAD_BYTES; None for one that is not taken.

    ``claim`` is its sender's Content-Type. It decides nothing, but where it says other than the bytes, one of the two
    is not what it seems. What has no signature may still be text, which its other bytes will show.
    """
    claimed = claim.partition(";")[0].strip().lower()
    claimed = ALIASES.get(claimed, claimed)
    found = next((kind for kind, signature in SIGNATURES.items() if _has(head, signature)), PLAIN_TEXT)
    return found if claimed in (found, *UNSAID) else None


def _has(head: bytes, signature: tuple[bytes, bytes]) -> bool:
    first, after_length = signature
    return head.startswith(first) and (not after_length or head[8:].startswith(after_length))


class Text:
    """Whether bytes are plain text, told as they come: UTF-8 without control characters but tabs and line ends."""

    def __init__(self) -> None:
        self._decoder = getincrementaldecoder("utf-8")()

    def goes_on(self, chunk: bytes, *, last: bool = False) -> bool:
        """Whether it is text so far; with ``last``, whether it was to its end."""
        try:
            self._decoder.decode(chunk, last)
        except UnicodeDecodeError:
            return False
        return BINARY.search(chunk) is None


def check_new_document(documents: int) -> None:
    """Raises Conflict when an item has as many documents as it can have."""
    if documents >= MAX_DOCUMENTS:
        raise Conflict(f"One item has at most {MAX_DOCUMENTS} documents.", code="too_many_documents")


def no_document() -> NotFound:
    return NotFound("There is no such document.")
