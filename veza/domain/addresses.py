"""Postal addresses, as far as an invoice needs them (EN 16931-1:2017, BG-5)."""

from __future__ import annotations

import re
from dataclasses import dataclass

MAX_STREET_LINES = 3  # BT-35, BT-36 and BT-162: the model has no more
POST_CODE = re.compile(r"(?P<post_code>(?=\S*\d)[A-Za-z0-9-]{3,10}) +(?P<city>\D.*)")

_COUNTRIES = (
    "AD AE AF AG AI AL AM AO AQ AR AS AT AU AW AX AZ BA BB BD BE BF BG BH BI BJ BL BM BN BO BQ BR BS BT BV "
    "BW BY BZ CA CC CD CF CG CH CI CK CL CM CN CO CR CU CV CW CX CY CZ DE DJ DK DM DO DZ EC EE EG EH ER ES "
    "ET FI FJ FK FM FO FR GA GB GD GE GF GG GH GI GL GM GN GP GQ GR GS GT GU GW GY HK HM HN HR HT HU ID IE "
    "IL IM IN IO IQ IR IS IT JE JM JO JP KE KG KH KI KM KN KP KR KW KY KZ LA LB LC LI LK LR LS LT LU LV LY "
    "MA MC MD ME MF MG MH MK ML MM MN MO MP MQ MR MS MT MU MV MW MX MY MZ NA NC NE NF NG NI NL NO NP NR NU "
    "NZ OM PA PE PF PG PH PK PL PM PN PR PS PT PW PY QA RE RO RS RU RW SA SB SC SD SE SG SH SI SJ SK SL SM "
    "SN SO SR SS ST SV SX SY SZ TC TD TF TG TH TJ TK TL TM TN TO TR TT TV TW TZ UA UG UM US UY UZ VA VC VE "
    "VG VI VN VU WF WS YE YT ZA ZM ZW "
)
COUNTRIES = frozenset(_COUNTRIES.split())
"""ISO 3166-1 alpha-2, what BR-CL-14 allows as a country."""


@dataclass(frozen=True)
class Address:
    """A postal address (BG-5). Of a country's parts only the code is a must (BR-9)."""

    street: tuple[str, ...]
    post_code: str | None
    city: str
    country: str
    """ISO 3166-1 alpha-2."""

    @property
    def lines(self) -> tuple[str, ...]:
        """As they are shown."""
        city = f"{self.post_code} {self.city}" if self.post_code else self.city
        return (*self.street, f"{city}, {self.country}")


def parse_address(text: str) -> Address:
    """The address an operator writes: its lines split by ``|`` or line ends, the last the country's ISO 3166-1 code.

    ``12 rue des Lilas|75011 Paris|FR``: at most three lines, then the city (a post code before it is told apart), then
    the country. Raises ValueError, which says what is wrong.
    """
    lines = [line for part in text.split("|") for line in map(str.strip, part.splitlines()) if line]
    if not lines or lines[-1].upper() not in COUNTRIES:
        raise ValueError("the last line is the country, a code of two letters such as FR (lines are split by |)")
    *street, city, country = lines if len(lines) > 1 else ("", *lines)
    if not city:
        raise ValueError("a line with the city stands before the country")
    if len(street) > MAX_STREET_LINES:
        raise ValueError(f"at most {MAX_STREET_LINES} lines stand before the city")
    coded = POST_CODE.fullmatch(city)
    post_code, city = (coded["post_code"], coded["city"]) if coded else (None, city)
    return Address(tuple(street), post_code, city, country.upper())
