"""What a page is to say when it is next opened: what a form did, or that it was not heeded, and what was written in it.

A form's answer leads to a page, and a note goes along: in a cookie, for it is to be said once, to who sent the form,
and by no address that a stranger could write. It is signed, so that nobody's site can plant words of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from typing import Final
from uuid import UUID

from pydantic import TypeAdapter
from quart import Response, request

from veza.http.console.cookies import GONE, cookie, given
from veza.http.parts import parts

COOKIE: Final = "veza_console_note"
DONE_LIFETIME: Final = timedelta(minutes=1)  # the page that says it is on its way; later it may not be so any more
KEPT_LIFETIME: Final = timedelta(minutes=15)  # to find one's password, and sign in
LARGEST: Final = 3_800  # characters: browsers drop a cookie of more than 4,096 with its name (RFC 6265bis, 5.6)


@dataclass(frozen=True)
class Note:
    """``at`` is the address of the page that says it. ``form`` is where a form was sent that was not heeded, empty
    where one was; ``written`` is what stood in it, as far as that could be kept."""

    at: str
    says: str
    form: str = ""
    written: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_undone(self) -> bool:
        """Whether what it tells of did not happen."""
        return bool(self.form)


NOTE: Final = TypeAdapter(Note)


def leave(response: Response, note: Note, reader: UUID | None, lifetime: timedelta = DONE_LIFETIME) -> bool:
    """Have a note go along with an answer, for one user, or whoever is not signed in. False if it is too large."""
    sealed = parts().tokens.sealed(asdict(note), reader, lifetime)
    if len(sealed) > LARGEST:
        return False
    response.headers.add("Set-Cookie", cookie(COOKIE, sealed, lifetime))
    return True


def left(at: str, reader: UUID | None) -> Note | None:
    """The note that was left for a page and for who opens it. What only looks whether the page is there gets none."""
    if request.method != "GET":
        return None
    for sealed in given(COOKIE, parts()):
        content = parts().tokens.opened(sealed, reader)
        note = None if content is None else NOTE.validate_python(content)
        if note is not None and note.at == at:
            return note
    return None


def take_away(response: Response) -> None:
    """It was said."""
    response.headers.add("Set-Cookie", cookie(COOKIE, "", GONE))
