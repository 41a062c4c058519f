"""Accounts as admins see them: who there is, who may not take part, and who is an admin."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Final
from uuid import UUID

from pydantic import Field, StringConstraints
from quart import Blueprint
from quart_schema import validate_querystring, validate_request, validate_response

from veza.actors import queue
from veza.domain.accounts import EMAIL_LENGTH, Role
from veza.domain.bans import REASON_LENGTH, Standing
from veza.http.auth import admin_only, by
from veza.http.envelope import Body, Envelope, Out
from veza.http.fields import Moment
from veza.http.paging import Paging
from veza.http.parts import parts
from veza.http.refusals import refuses
from veza.store.accounts import Wanted

api = Blueprint("accounts", __name__)

ACCOUNTS: Final = "/admin/users"
ACCOUNT: Final = f"{ACCOUNTS}/<uuid:user_id>"

Reason = Annotated[str, StringConstraints(strip_whitespace=True, max_length=REASON_LENGTH)]


class BanOut(Out):
    """``until`` is null for a lasting one. ``reason`` was told to who is banned, and is empty where nothing was."""

    at: datetime | None
    until: datetime | None
    reason: str


class AccountOut(Out):
    """``ban`` is the one that stands at the moment, null for who may take part."""

    id: UUID
    username: str
    email: str
    role: Role
    banned: bool
    ban: BanOut | None
    created_at: datetime
    updated_at: datetime


class AccountsOut(Out):
    users: list[AccountOut]
    total: int


class AccountsQuery(Paging):
    """``search`` is a part of the username or the email, in whatever case, or the whole id."""

    search: str | None = Field(None, max_length=EMAIL_LENGTH)
    role: Role | None = None
    banned: bool | None = None


class BanBody(Body):
    """``reason`` is told to who is banned. Without ``until`` it lasts until an admin lifts it."""

    reason: Reason = ""
    until: Moment | None = None


class RoleBody(Body):
    role: Role


@api.get(ACCOUNTS)
@admin_only
@validate_querystring(AccountsQuery)
@validate_response(Envelope[AccountsOut])
async def get_accounts(query_args: AccountsQuery) -> Envelope[AccountsOut]:
    """Everybody's accounts, the newest first. Whoever had theirs erased is in no list."""
    wanted = Wanted((query_args.search or "").strip() or None, query_args.role, query_args.banned)
    found, total = await parts().accounts.page(wanted, limit=query_args.limit, offset=query_args.offset)
    return Envelope[AccountsOut](data=AccountsOut(users=list(map(_account, found)), total=total))


@api.post(f"{ACCOUNT}/ban")
@admin_only
@validate_request(BanBody)
@validate_response(Envelope[AccountOut])
@refuses("own_account", "last_admin")
async def ban(user_id: UUID, data: BanBody) -> Envelope[AccountOut]:
    """Ban a user, for a time or for good; audited. For one who is banned it sets time and reason anew.

    At once, in every process: their sessions end, and they can't sign in; what they sell leaves the listings and can't
    be bought (who bought it keeps it); their streams are put off the air; their payouts are held as `banned`. One with
    an end ends by itself.
    """
    return _out(await parts().bans.ban(user_id, data.until, data.reason, by=by(), now=parts().clock()))


@api.post(f"{ACCOUNT}/unban")
@admin_only
@validate_response(Envelope[AccountOut])
@refuses("not_banned")
async def unban(user_id: UUID) -> Envelope[AccountOut]:
    """Let a banned user back in; audited. What they sell is on sale again and their payouts go on."""
    lifted = await parts().bans.lift(user_id, by=by())
    queue.ring(parts().refs.payouts)
    return _out(lifted)


@api.put(f"{ACCOUNT}/role")
@admin_only
@validate_request(RoleBody)
@validate_response(Envelope[AccountOut])
@refuses("own_account", "last_admin")
async def put_role(user_id: UUID, data: RoleBody) -> Envelope[AccountOut]:
    """Make a user an admin, or one no more; it acts at their next request, and is audited.

    Nobody demotes themselves, or the last admin.
    """
    changed = await parts().accounts.set_role(user_id, data.role, by=by(), new_id=parts().new_id, now=parts().clock())
    return _out(changed)


def _out(standing: Standing) -> Envelope[AccountOut]:
    return Envelope[AccountOut](data=_account(standing))


def _account(standing: Standing) -> AccountOut:
    ban = None if standing.ban is None else BanOut.of(standing.ban)
    return AccountOut.of(standing.user, banned=ban is not None, ban=ban)
