"""What pages load: each file read once, and served from memory under an address that changes with its bytes.

So a browser may keep it for good, and never mixes an old script with a new page.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Final

FOLDER: Final = Path(__file__).parent / "static"
ROOT: Final = "/static"

CONTENT_TYPES: Final = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
"""What is served at all: notices of licences beside a script are not."""


@dataclass(frozen=True)
class Asset:
    body: bytes
    content_type: str
    version: str


@cache
def assets() -> Mapping[str, Asset]:
    """Every asset by its path under the folder."""
    return {
        path.relative_to(FOLDER).as_posix(): Asset(body, CONTENT_TYPES[path.suffix], sha256(body).hexdigest()[:16])
        for path in sorted(FOLDER.rglob("*"))
        if path.suffix in CONTENT_TYPES and path.is_file()
        for body in [path.read_bytes()]
    }


def asset_url(name: str) -> str:
    """Where a page finds an asset as it is now. Raises KeyError where there is none."""
    return f"{ROOT}/{name}?v={assets()[name].version}"
