"""VAT as an operator writes it: an identifier, and a rate for each kind of work."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal

from veza.domain.addresses import COUNTRIES
from veza.domain.catalog import ProductType

FRENCH_VAT_ID = re.compile(r"FR[A-Z0-9]{2}([0-9]{9})")
VAT_ID = re.compile(r"([A-Z]{2})[A-Z0-9+*]{2,13}")
VAT_COUNTRIES = COUNTRIES | {"EL", "XI"}  # BR-CO-9: a country's code first; Greece and Northern Ireland have their own
BP = 10_000
"""Basis points in the whole."""


@dataclass(frozen=True)
class VatRates:
    """The rate of each kind of work, in basis points."""

    default_bp: int = 0
    by_type: Mapping[ProductType, int] = field(default_factory=dict)

    def of(self, product_type: ProductType) -> int:
        return self.by_type.get(product_type, self.default_bp)

    @property
    def charges(self) -> bool:
        """Whether anything bears VAT; the issuer needs a VAT identifier then (BR-S-2)."""
        return self.default_bp > 0 or any(rate > 0 for rate in self.by_type.values())


def parse_vat_rates(text: str) -> VatRates:
    """The rates an operator writes: ``20`` for everything, or ``default=20,course=0,other=5.5``; empty is no VAT.

    Percentages from 0 to below 100, with up to two digits after the point. Raises ValueError, which names the fault and
    does not repeat the text.
    """
    rates: dict[str, int] = {}
    for part in filter(None, map(str.strip, text.split(","))):
        name, _, rate = part.rpartition("=")
        name = name.strip() or "default"
        if name != "default" and name not in list(ProductType):
            raise ValueError(f"rates are of {', '.join(ProductType)}, and default")
        if name in rates:
            raise ValueError(f"the rate of {name} is given twice")
        rates[name] = _basis_points(rate)
    default = rates.pop("default", 0)
    return VatRates(default, {ProductType(name): rate for name, rate in rates.items()})


def _basis_points(rate: str) -> int:
    digits = re.fullmatch(r"([0-9]{1,2})(?:\.([0-9]{1,2}))?", rate.strip().removesuffix("%").rstrip())
    if not digits:
        raise ValueError("a rate is a percentage below 100, such as 20 or 5.5")
    return int(digits[1]) * 100 + int((digits[2] or "").ljust(2, "0"))


def parse_vat_id(text: str) -> str | None:
    """The VAT identifier an operator writes, without its blanks; None where it is empty. Raises ValueError."""
    vat_id = re.sub(r"[\s.-]", "", text).upper()
    read = VAT_ID.fullmatch(vat_id)
    if vat_id and (read is None or read[1] not in VAT_COUNTRIES):
        raise ValueError("a VAT identifier begins with its country, such as FR11123456782")
    return vat_id or None


def percent(vat_bp: int) -> str:
    """A rate as people write it: 2000 is 20, 550 is 5.5."""
    return f"{Decimal(vat_bp) / 100:f}"
