"""What an operator does to one actor, and the reason they give for it."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from veza.domain.errors import Invalid
from veza.domain.names import check_line

REASON_LENGTH: Final = 500


class Action(StrEnum):
    RESTART = "restart"
    PAUSE = "pause"
    RESUME = "resume"
    DRAIN = "drain"


def check_reason(reason: str) -> str:
    """The reason, without blanks around it. Raises Invalid unless it is a line of 1 to 500 characters."""
    reason = reason.strip()
    if not reason or len(reason) > REASON_LENGTH:
        raise Invalid(f"A reason has 1 to {REASON_LENGTH} characters.", field="reason")
    return check_line(reason, "reason")
