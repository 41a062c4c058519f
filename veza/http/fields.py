"""What people type about themselves, as bodies' fields: checked by the domain, every fault told with its field."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from pydantic import AfterValidator, Field, SecretStr

from veza.domain.accounts import check_email, check_password, check_username
from veza.domain.errors import Invalid


def _checked(check: Callable[[str], str]) -> Callable[[str], str]:
    """The check for pydantic, which gathers the faults of a whole body if they are ValueErrors."""

    def validate(value: str) -> str:
        try:
            return check(value)
        except Invalid as refusal:
            raise ValueError(str(refusal)) from None

    return validate


def _check_secret(password: SecretStr) -> SecretStr:
    return SecretStr(_checked(check_password)(password.get_secret_value()))


Username = Annotated[
    str,
    AfterValidator(_checked(check_username)),
    Field(description="3 to 30 letters, digits, underscores or hyphens; unique without regard to case."),
]
Email = Annotated[
    str,
    AfterValidator(_checked(check_email)),
    Field(description="Kept case-folded, and unique.", json_schema_extra={"format": "email"}),
]
NewPassword = Annotated[
    SecretStr,
    AfterValidator(_check_secret),
    Field(description="8 to 128 characters, with a letter and a digit or symbol."),
]
"""A password to be set. One that is only to be compared is a plain SecretStr: the rules may have been others then."""
