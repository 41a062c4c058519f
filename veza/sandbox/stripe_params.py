"""Stripe's request parameters: form encoding with bracketed names, and the checks made before an endpoint begins."""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import parse_qsl

from veza.sandbox.store import Object
from veza.sandbox.stripe_errors import invalid, missing_param, unknown_param

LARGEST_AMOUNT = 99_999_999  # eight digits, Stripe's limit in most currencies
METADATA_KEYS, METADATA_NAME, METADATA_VALUE = 50, 40, 500


def parse_form(text: str) -> Object:
    return nest(parse_qsl(text, keep_blank_values=True))


def nest(pairs: Iterable[tuple[str, str]]) -> Object:
    """``metadata[order]=1`` becomes ``{"metadata": {"order": "1"}}``; indexes are kept as keys."""
    nested: Object = {}
    for name, value in pairs:
        head, *rest = re.findall(r"[^\[\]]+", name) or [name]
        here = nested
        for step in rest:
            deeper = here.setdefault(head, {})
            if not isinstance(deeper, dict):
                raise invalid(f"Invalid hash: {name}", None, head)
            here, head = deeper, step
        here[head] = value
    return nested


def check_names(params: Object, accepted: Iterable[str], required: Iterable[str] = ()) -> None:
    for name in params:
        if name not in accepted:
            raise unknown_param(name)
    for name in required:
        if params.get(name) in (None, ""):
            raise missing_param(name)
    if "expand" in params:
        raise invalid("This property cannot be expanded here.", None, "expand")


def integer(params: Object, name: str, *, least: int = 1, most: int = LARGEST_AMOUNT) -> int | None:
    text = params.get(name)
    if text is None:
        return None
    if not isinstance(text, str) or not re.fullmatch(r"-?\d{1,18}", text):
        raise invalid(f"Invalid integer: {text}", "parameter_invalid_integer", name)
    value = int(text)
    if value < least:
        raise invalid(f"This value must be greater than or equal to {least}.", "parameter_invalid_integer", name)
    if value > most:
        code = "amount_too_large" if name == "amount" else "parameter_invalid_integer"
        raise invalid(f"This value must be no more than {most}.", code, name)
    return value


def text(params: Object, name: str) -> str | None:
    value = params.get(name)
    if isinstance(value, dict):
        raise invalid("Invalid string.", "parameter_invalid_string", name)
    return None if value is None else str(value)


def currency(params: Object, name: str = "currency") -> str:
    value = (text(params, name) or "").lower()
    if not re.fullmatch(r"[a-z]{3}", value):
        raise invalid(f"Invalid currency: {value}.", None, name)
    return value


def metadata(params: Object) -> Object:
    given = params.get("metadata", {})
    if given == "":
        return {}
    if not isinstance(given, dict) or len(given) > METADATA_KEYS:
        raise invalid("Invalid metadata: a hash of at most 50 keys.", None, "metadata")
    for name, value in given.items():
        if not isinstance(value, str) or len(value) > METADATA_VALUE or len(name) > METADATA_NAME:
            raise invalid(f"Invalid metadata: {name}", None, f"metadata[{name}]")
    return given
