"""Fields that several routes share, each fault told with its field. What people type is checked by the domain."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Annotated, Final

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr

from veza.domain.accounts import check_email, check_password, check_username
from veza.domain.errors import Invalid


def checked(check: Callable[[str], str]) -> Callable[[str], str]:
    """The check for pydantic, which gathers the faults of a whole body if they are ValueErrors."""

    def validate(value: str) -> str:
        try:
            return check(value)
        except Invalid as refusal:
            raise ValueError(str(refusal)) from None

    return validate


def _check_secret(password: SecretStr) -> SecretStr:
    return SecretStr(checked(check_password)(password.get_secret_value()))


Username = Annotated[
    str,
    AfterValidator(checked(check_username)),
    Field(description="3 to 30 letters, digits, underscores or hyphens; unique without regard to case."),
]
Email = Annotated[
    str,
    AfterValidator(checked(check_email)),
    Field(description="Kept case-folded, and unique.", json_schema_extra={"format": "email"}),
]
NewPassword = Annotated[
    SecretStr,
    AfterValidator(_check_secret),
    Field(description="8 to 128 characters, with a letter and a digit or symbol."),
]
"""A password to be set. One that is only to be compared is a plain SecretStr: the rules may have been others then."""

WHOLE_NUMBER = re.compile(r"-?[0-9]{1,20}")
MOMENT = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2})(T[0-9:]{8}([.][0-9]+)?(Z|[+-][0-9]{2}:[0-9]{2}))?", re.IGNORECASE)

EARLIEST: Final = datetime.min.replace(tzinfo=UTC) + timedelta.resolution
LATEST: Final = datetime.max.replace(tzinfo=UTC) - timedelta.resolution
"""The first and the last moment of all are infinity to the database's driver, and come back without a zone."""


def _digits(value: object) -> object:
    if isinstance(value, str) and not WHOLE_NUMBER.fullmatch(value):
        raise ValueError("This is not a whole number.")
    return value


def _moment(value: object) -> datetime:
    if isinstance(value, str) and MOMENT.fullmatch(value):
        with suppress(ValueError, OverflowError):  # the thirtieth of February; a year that is no year in UTC
            read = datetime.fromisoformat(value.upper())
            aware = read.astimezone(UTC) if read.tzinfo else read.replace(tzinfo=UTC)
            return min(max(aware, EARLIEST), LATEST)
    raise ValueError("This is neither an RFC 3339 time (2026-02-23T12:00:00Z) nor a date (2026-02-23).")


WholeNumber = Annotated[int, BeforeValidator(_digits)]
"""A query's number, written in digits alone."""

Moment = Annotated[datetime, BeforeValidator(_moment)]
"""A query's point in time, as RFC 3339 has it (section 5.6); a bare date is its first moment in UTC."""
