"""Refusals: what the platform says no to, in words meant for the person who asked.

A refusal changes nothing. ``http/errors.py`` alone knows which status each one has.
"""

from __future__ import annotations


class Refusal(Exception):  # noqa: N818 - the field's word: an expected no, not a fault
    """An expected no. ``str(refusal)`` is one sentence for the asker; ``code`` is for programs."""

    code = "refused"

    def __init__(self, message: str, *, code: str | None = None, field: str | None = None) -> None:
        super().__init__(message)
        self.code = code or type(self).code
        self.field = field


class Invalid(Refusal):
    """What was sent makes no sense; ``field`` names the part."""

    code = "invalid"


class Unauthenticated(Refusal):
    """No credentials, or none that hold."""

    code = "unauthenticated"


class Forbidden(Refusal):
    """The asker is known and may not."""

    code = "forbidden"


class NotFound(Refusal):
    """It does not exist, or the asker may not know that it does."""

    code = "not_found"


class Conflict(Refusal):
    """It makes sense, but not in the state things are in."""

    code = "conflict"


class PreconditionFailed(Refusal):
    """It has changed since the asker looked, and they said that they mean it as it was then."""

    code = "precondition_failed"


class TooLarge(Refusal):
    """More bytes than are taken."""

    code = "too_large"


class TooMany(Refusal):
    """It would be heard, were it not the hundredth time; ``retry_after`` seconds from now it is."""

    code = "too_many_requests"

    def __init__(self, message: str, *, retry_after: int) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Unavailable(Refusal):
    """A service this needs cannot be reached now; nothing was changed that a retry would repeat."""

    code = "unavailable"
