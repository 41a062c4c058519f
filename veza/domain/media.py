"""Covers and previews: what everyone may see and hear of a product before buying it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from veza.domain.errors import Invalid


class MediaKind(StrEnum):
    COVER = "cover"
    PREVIEW = "preview"


@dataclass(frozen=True)
class Media:
    """``object_key`` names the bytes to the objects gateway; ``content_type`` is what they are, not a claim."""

    object_key: str
    content_type: str


MAX_BYTES: Final = {
    MediaKind.COVER: 10 * 1024 * 1024,  # a square of 3,000 pixels, as stores ask for, has one to five
    MediaKind.PREVIEW: 50 * 1024 * 1024,  # five minutes of uncompressed stereo
}

HEAD_BYTES: Final = 16  # enough of a file to tell what it is

# The first bytes of each format, `.` standing for any (RFC 9649 for WebP; RFC 9639, FLAC; RFC 3533, Ogg; ISO 14496-12,
# MP4; the PNG and JPEG specifications; the RIFF of Microsoft and IBM for WAVE; an MPEG frame or its ID3 tag for MP3).
SIGNATURES: Final = {
    MediaKind.COVER: {
        "image/jpeg": [b"\xff\xd8\xff"],
        "image/png": [b"\x89PNG\r\n\x1a\n"],
        "image/webp": [b"RIFF....WEBP"],
    },
    MediaKind.PREVIEW: {
        "audio/mpeg": [b"ID3", b"\xff\xfb", b"\xff\xf3", b"\xff\xf2"],
        "audio/ogg": [b"OggS"],
        "audio/flac": [b"fLaC"],
        "audio/wav": [b"RIFF....WAVE"],
        "audio/mp4": [b"....ftypM4A"],
    },
}


def media_type_of(kind: MediaKind, head: bytes) -> str:
    """What a file is, by its first HEAD_BYTES. Raises Invalid for what is none of the kind's formats."""
    for content_type, signatures in SIGNATURES[kind].items():
        if any(_begins(head, signature) for signature in signatures):
            return content_type
    formats = ", ".join(content_type.partition("/")[2] for content_type in SIGNATURES[kind])
    raise Invalid(f"A {kind} is one of these: {formats}.", field="file")


def _begins(head: bytes, signature: bytes) -> bool:
    if len(head) < len(signature):
        return False
    return all(wanted in (ord("."), found) for wanted, found in zip(signature, head, strict=False))
