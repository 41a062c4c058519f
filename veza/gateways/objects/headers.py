"""What a file is sent as: its name in a header that no name can break (RFC 6266, RFC 8187), and a media type."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import quote

MEDIA_TYPE: Final = re.compile(r"[a-z0-9!#$&^_.+-]{1,64}/[a-z0-9!#$&^_.+-]{1,64}")
UNKNOWN_TYPE: Final = "application/octet-stream"
PRIVATE: Final = "private, no-cache"  # whether one may read it is asked each time


def content_disposition(disposition: str, filename: str) -> str:
    """The header for a name of any characters: an ASCII stand-in for old clients, the true one in UTF-8."""
    name = "".join(c if c.isprintable() else "_" for c in filename.replace("/", "_")) or "download"
    plain = re.sub(r"[^A-Za-z0-9 !#$&+.^_`|~()\[\]{},;=@-]", "_", name)
    return f"{disposition}; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"


def media_type(given: str) -> str:
    """The uploader's word, if it is a media type at all."""
    return given if MEDIA_TYPE.fullmatch(given) else UNKNOWN_TYPE
