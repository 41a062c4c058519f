"""What a file is, by its first bytes."""

from __future__ import annotations

import pytest

from veza.domain.errors import Invalid
from veza.domain.media import MediaKind, media_type_of

FORMATS = {
    b"\xff\xd8\xff\xe0\0\x10JFIF\0": "image/jpeg",
    b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR": "image/png",
    b"RIFF\x24\x10\0\0WEBPVP8 ": "image/webp",
    b"ID3\x04\0\0\0\0\0\x23TSSE": "audio/mpeg",
    b"\xff\xfb\x90\x64\0\0": "audio/mpeg",
    b"OggS\0\x02": "audio/ogg",
    b"fLaC\0\0\0\x22": "audio/flac",
    b"RIFF\x24\x10\0\0WAVEfmt ": "audio/wav",
    b"\0\0\0\x1cftypM4A \0\0": "audio/mp4",
}


@pytest.mark.parametrize(("head", "content_type"), FORMATS.items())
def test_each_format_is_known_by_its_beginning_and_for_its_kind_alone(head: bytes, content_type: str) -> None:
    own = MediaKind.COVER if content_type.startswith("image/") else MediaKind.PREVIEW
    other = MediaKind.PREVIEW if own is MediaKind.COVER else MediaKind.COVER
    assert media_type_of(own, head) == content_type
    with pytest.raises(Invalid):
        media_type_of(other, head)


@pytest.mark.parametrize("kind", MediaKind)
@pytest.mark.parametrize(
    "head", [b"", b"\xff", b"RIFF\0\0\0\0", b"<svg>", b"GIF89a", b"\x89png\r\n\x1a\n", b"MZ\x90\0"]
)
def test_anything_else_is_refused(kind: MediaKind, head: bytes) -> None:
    with pytest.raises(Invalid):
        media_type_of(kind, head)
