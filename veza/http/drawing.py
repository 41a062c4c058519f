"""Templates drawn without the framework: in front of it, and long after a request's context is gone."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from typing import Final

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from veza.domain.invoices import major

UNITS: Final = ("B", "kB", "MB", "GB", "TB")
UNITS_IN_NAMES: Final = {"ms": "ms", "s": "s", "gb": "GB"}
WIDTH, HEIGHT = 120, 24  # of a sparkline, in units of its own


@cache
def templates() -> Environment:
    """All of them; text is escaped, and a name that nobody gave is a mistake."""
    environment = Environment(
        loader=PackageLoader("veza.http"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "moment": moment,
        "money": money,
        "size": size,
        "lasting": lasting,
        "millis": millis,
        "line": line,
        "told": told,
        "measured": measured,
        "picked": picked,
    }
    return environment


def moment(at: datetime | None) -> Markup:
    """A point in time, in UTC to the second; a dash for none."""
    if at is None:
        return Markup("&ndash;")
    utc = at.astimezone(UTC)
    return Markup('<time datetime="{:%Y-%m-%dT%H:%M:%SZ}">{:%d %b %Y %H:%M:%S}</time>').format(utc, utc)


def money(cents: int, currency: str) -> str:
    """Minor units, as people write them."""
    return f"{major(cents, currency):,f} {currency}"


def size(count: int) -> str:
    """Bytes, in the largest decimal unit that leaves more than one."""
    amount, unit = float(count), 0
    while amount >= 1000 and unit < len(UNITS) - 1:
        amount, unit = amount / 1000, unit + 1
    return f"{amount:.0f} {UNITS[unit]}" if unit == 0 or amount >= 100 else f"{amount:.1f} {UNITS[unit]}"


def lasting(seconds: float) -> str:
    """How long something takes or took, in the unit that one would say it in."""
    for per, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * per:
            return f"{seconds / per:.0f} {unit}"
    return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"


def millis(ms: float) -> str:
    """How long something takes that mostly takes less than a second."""
    if ms < 999.5:
        return f"{ms:.3g} ms"
    return f"{ms / 1000:.3g} s" if ms < 99_950 else lasting(ms / 1000)


def told(details: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    """What an entry of the audit tells besides, as words; what it tells nothing of is left out."""
    for name, value in details.items():
        if isinstance(value, bool):
            yield name.replace("_", " "), "yes" if value else "no"
        elif value is not None and value != "":
            text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            yield name.replace("_", " "), text


def picked(text: str) -> str:
    """A point in time in UTC as browsers' pickers take it; nothing for what is none."""
    try:
        at = datetime.fromisoformat(text)
        return (at.astimezone(UTC) if at.tzinfo else at).replace(tzinfo=None).isoformat(timespec="seconds")
    except (ValueError, OverflowError):
        return ""


def measured(name: str, value: object) -> str:
    """What a check found: its unit, which stands in the name, after the number."""
    word, _, unit = name.rpartition("_")
    if unit in UNITS_IN_NAMES and word:
        return f"{word.replace('_', ' ')} {value} {UNITS_IN_NAMES[unit]}"
    return f"{name.replace('_', ' ')} {value}"


def line(values: Sequence[float | None], most: int) -> Markup:
    """The path of a sparkline for ``most`` values, the latest at its right end; where there is none it is broken."""
    peak = max((value for value in values if value is not None), default=0.0) or 1.0
    step, drawn, pen = WIDTH / max(most - 1, 1), list[str](), "M"
    for place, value in enumerate(values, most - len(values)):
        if value is None:
            pen = "M"
            continue
        drawn.append(f"{pen}{place * step:.1f} {HEIGHT - 1 - value / peak * (HEIGHT - 2):.1f}")
        pen = "L"
    if drawn and "L" not in "".join(drawn):
        drawn.append("h1")
    return Markup("".join(drawn))  # noqa: S704 - digits
