"""Erasing one's own account."""

from __future__ import annotations

from typing import Final

from pydantic import SecretStr
from quart import Blueprint
from quart_schema import validate_request, validate_response

from veza.domain.erasure import WHY, Erasure, Gone, Obstacle
from veza.domain.errors import Conflict
from veza.domain.live import SessionEnd
from veza.http.auth import caller, in_person, login_required
from veza.http.deadline import renew
from veza.http.envelope import Body, DeletedOut, Envelope, Out
from veza.http.parts import parts
from veza.http.refusals import refuses
from veza.http.routes.auth import refresh_cookie
from veza.http.routes.users import verified

ERASURE_SECONDS: Final = 60.0  # the invoices of some ten thousand orders, and whatever else somebody has

api = Blueprint("erasure", __name__)


class ErasureBody(Body):
    password: SecretStr


class GoneOut(Out):
    what: str
    how_many: int | None
    """Null for what is one's own alone."""


class KeptOut(Out):
    what: str
    why: str


class ErasedOut(DeletedOut):
    """What was erased, and what the platform keeps of it, each with the reason."""

    erased: list[GoneOut]
    kept: list[KeptOut]

    @classmethod
    def told(cls, erasure: Erasure) -> ErasedOut:
        erased = [
            GoneOut(what=what, how_many=None if what is Gone.IDENTITY else many)
            for what, many in erasure.gone.items()
            if many
        ]
        return cls(erased=erased, kept=[KeptOut(what=what, why=WHY[what]) for what in erasure.kept])


@api.delete("/users/me")
@login_required
@validate_request(ErasureBody)
@validate_response(Envelope[ErasedOut])
@refuses("invalid_credentials", "too_many_attempts", *Obstacle, "password_changed")
async def delete_me(data: ErasureBody) -> tuple[Envelope[ErasedOut], int, dict[str, str]]:
    """Erase one's account and everything that tells of oneself, for good.

    It takes the password. 409 while money is under way, and for the last admin: the code says what stands in the way.
    What is on air goes off air. What has to be kept is told, with the reason.
    """
    user_id, erasures = caller().id, parts().erasures
    credentials = await verified(data.password, "password")
    await erasures.check(user_id)
    renew(ERASURE_SECONDS)
    await erasures.write_documents(user_id)
    for stream_id in await parts().streams.retire(user_id):  # committed, so that nobody comes back on air
        await parts().refs.live.end(stream_id, SessionEnd.DELETED)
    no_password = parts().passwords.hash_of_nothing()
    erasure = await erasures.erase(credentials, no_password, by=in_person(), now=parts().clock())
    if erasure is None:
        raise Conflict("The password was changed meanwhile.", code="password_changed")
    return Envelope[ErasedOut](data=ErasedOut.told(erasure)), 200, refresh_cookie("")
