"""The published field lists, read from the JSON files in ``schemas/``.

Each file names its source (repository, path, version). The request lists say what the stand-ins accept; the object
lists say what they may emit, which the tests hold them to.
"""

from __future__ import annotations

import json
from importlib.resources import files


def fields(provider: str) -> dict[str, dict[str, dict[str, str]]]:
    """``{"objects" | "requests": {name: {field: type}}}``; ``?`` after a type allows null, ``!`` requires it."""
    text = files("veza.sandbox").joinpath("schemas", f"{provider}.json").read_text()
    loaded: dict[str, dict[str, dict[str, str]]] = {
        part: content for part, content in json.loads(text).items() if part in ("objects", "requests")
    }
    return loaded


_REQUESTS = fields("hyperswitch")["requests"]
PAYMENT_REQUEST = set(_REQUESTS["PaymentsRequest"])
REFUND_REQUEST = set(_REQUESTS["RefundRequest"])
