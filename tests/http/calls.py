"""How each route is called, so that it does what it is for when its owner calls it: with ids, bodies and files."""

from __future__ import annotations

import hmac
import json
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final
from uuid import uuid4

from tests.house import ADMIN_EMAIL, PASSWORD, Account
from tests.http.world import ANNOUNCEMENT, HOOK_TOKEN, MEDIA, PDF, TEXT, World, hook
from tests.shop import data, event
from veza.domain.operations import Action


class Who(StrEnum):
    """Who calls. ``OWNER`` is whose things it is about: Ana, or who holds a hook's or a webhook's secret."""

    NOBODY = "nobody"
    ANOTHER = "another"
    OWNER = "owner"
    ADMIN = "admin"


@dataclass
class Call:
    """``by`` sends it in the place of whoever else would; ``sent`` is as httpx has it."""

    ids: dict[str, str] = field(default_factory=dict)
    sent: dict[str, Any] = field(default_factory=dict)
    by: Account | None = None


@dataclass(frozen=True)
class Occasion:
    """``fresh``: it should succeed, so what it uses up is made for it. ``closed``: during maintenance."""

    who: Who
    fresh: bool
    closed: bool = False


Make = Callable[[World, Occasion], Awaitable[Call]]
Thing = Callable[[World], Awaitable[str]]

# -- which things a path is about --------------------------------------------------------------------------------------

THINGS: Final[Mapping[str, Mapping[str, str]]] = {
    "/auth/": {"session_id": "session"},
    "/cloud/": {"file_id": "file", "share_id": "share", "token": "share_token"},
    "/inventory/": {"gear_id": "gear", "document_id": "document", "repair_id": "repair"},
    "/live/": {"stream_id": "stream"},
    "/marketplace/orders/": {"order_id": "order", "file_id": "download"},
    "/marketplace/products/": {"product_id": "product"},
    "/notifications/": {"notification_id": "notification"},
    "/objects/": {"token": "object"},
    "/sell/": {"refund_id": "requested_refund"},
    "/admin/announcements/": {"announcement_id": "announcement"},
    "/admin/reports/": {"report_id": "report"},
    "/admin/transfers/": {"transfer_id": "transfer"},
    "/admin/users/": {"user_id": "user"},
    "/users/:user_id": {"user_id": "user"},
    "/users/me/": {"export_id": "export"},
    "/console/": {"report_id": "report", "transfer_id": "transfer", "user_id": "user"},
    "/watch/": {"stream_id": "stream"},
}
"""By the beginning of a path: each parameter's thing in the world."""

THINGS_OF: Final[Mapping[str, Mapping[str, str]]] = {
    "DELETE /marketplace/products/:product_id/files/:file_id": {"product_id": "draft", "file_id": "draft_file"},
    "GET /marketplace/orders/:order_id/refunds": {"order_id": "refunded"},
    "GET /marketplace/orders/:order_id/refunds/:refund_id/credit-note": {"order_id": "refunded", "refund_id": "refund"},
    "POST /marketplace/orders/:order_id/cancel": {"order_id": "unpaid"},
    "POST /marketplace/products/:product_id/reviews": {"product_id": "unreviewed"},
    "PUT /marketplace/products/:product_id/reviews/:review_id": {"product_id": "gift", "review_id": "review"},
    "DELETE /marketplace/products/:product_id/reviews/:review_id": {"product_id": "gift", "review_id": "review"},
    "PUT /marketplace/products/:product_id/reviews/:review_id/response": {
        "product_id": "theirs",
        "review_id": "review_of_theirs",
    },
}

PLAIN: Final = {"name": "watch.css", "version": "1", "path": "veza/janitor"}
"""Parameters that are what they are."""

FRESH: Final[Mapping[str, tuple[str, Thing]]] = {
    "DELETE /admin/announcements/:announcement_id": ("announcement_id", World.announcement),
    "DELETE /auth/sessions/:session_id": ("session_id", lambda world: _session(world)),
    "DELETE /cloud/files/:file_id": ("file_id", World.file),
    "DELETE /cloud/files/:file_id/share/:share_id": ("share_id", lambda world: _share(world)),
    "DELETE /cloud/files/:file_id/versions/:version": ("file_id", World.snapshot),
    "DELETE /inventory/gear/:gear_id": ("gear_id", World.gear),
    "DELETE /inventory/gear/:gear_id/documents/:document_id": (
        "document_id",
        lambda world: world.document(world.things["gear"]),
    ),
    "DELETE /inventory/gear/:gear_id/repairs/:repair_id": (
        "repair_id",
        lambda world: world.repair(world.things["gear"]),
    ),
    "DELETE /live/streams/:stream_id": ("stream_id", World.on_air),
    "DELETE /marketplace/products/:product_id": ("product_id", lambda world: _draft(world)),
    "DELETE /marketplace/products/:product_id (a draft)": ("product_id", lambda world: _draft(world)),
    "DELETE /marketplace/products/:product_id/reviews/:review_id": ("review_id", lambda world: _review(world)),
    "POST /admin/reports/:report_id/resolve": ("report_id", World.report),
    "POST /admin/transfers/:transfer_id/hold": ("transfer_id", lambda world: world.transfer("not_onboarded")),
    "POST /admin/transfers/:transfer_id/release": ("transfer_id", lambda world: world.transfer("admin")),
    "POST /admin/transfers/:transfer_id/retry": ("transfer_id", lambda world: world.transfer("not_onboarded")),
    "POST /admin/users/:user_id/ban": ("user_id", lambda world: _newcomer(world)),
    "POST /admin/users/:user_id/unban": ("user_id", lambda world: _banned(world)),
    "POST /live/streams/:stream_id/end": ("stream_id", World.on_air),
    "POST /live/streams/:stream_id/end (a draft)": ("stream_id", lambda world: _draft_on_air(world)),
    "POST /marketplace/orders/:order_id/cancel": ("order_id", lambda world: world.ordered(world.bought)),
    "POST /marketplace/orders/:order_id/refund": ("order_id", lambda world: world.paid(world.bought)),
    "POST /marketplace/orders/:order_id/refund (its seller)": ("order_id", lambda world: _sold(world)),
    "POST /sell/refunds/:refund_id/approve": ("refund_id", World.requested_refund),
    "POST /sell/refunds/:refund_id/decline": ("refund_id", World.requested_refund),
}
"""What a call uses up, by the parameter it is named in, and how another is made."""

VARIANTS: Final[Mapping[str, Mapping[str, str]]] = {
    "a draft": {"product_id": "draft", "stream_id": "draft_stream", "file_id": "draft_file"},
    "its seller": {"order_id": "sold_order", "refund_id": "sold_refund", "file_id": "sold_download"},
}
"""What stands in brackets behind a route in the table: the same route, about another thing."""


async def _session(world: World) -> str:
    return str((await world.session(world.ana)).id)


async def _newcomer(world: World) -> str:
    return (await world.newcomer()).id


async def _banned(world: World) -> str:
    user_id = await _newcomer(world)
    world.run("UPDATE users SET banned_until = 'infinity' WHERE id = %s", user_id)
    return user_id


async def _share(world: World) -> str:
    return await world.made(f"/cloud/files/{world.things['file']}/share", json={})


async def _draft(world: World) -> str:
    return str((await world.draft())["id"])


async def _draft_on_air(world: World) -> str:
    stream_id = world.things["draft_stream"]
    await world.publish(await world.key(stream_id))
    return stream_id


async def _review(world: World) -> str:
    return await world.review(world.ana, {"id": world.things["gift"]})


async def _sold(world: World) -> str:
    return str((await world.shop.bought(world.ben, world.sold))["id"])


# -- what is sent ------------------------------------------------------------------------------------------------------

JSON: Final[Mapping[str, object]] = {
    "PATCH /cloud/files/:file_id": {"name": "renamed.wav"},
    "POST /cloud/files/:file_id/share": {"expires_in_hours": 1},
    "POST /inventory/gear": {"name": "Tape machine"},
    "PUT /inventory/gear/:gear_id": {"notes": "Hums."},
    "POST /inventory/gear/:gear_id/repairs": {"repair_date": "2026-02-15", "description": "New heads"},
    "POST /live/streams": {"title": "Sunday"},
    "PUT /live/streams/:stream_id": {"description": "Every week."},
    "POST /live/streams/me/key/regenerate": {},
    "POST /marketplace/products": {"title": "A track", "price_cents": 100},
    "PUT /marketplace/products/:product_id": {"description": "Warm."},
    "POST /marketplace/products/:product_id/reviews": {"rating": 4},
    "PUT /marketplace/products/:product_id/reviews/:review_id": {"rating": 3},
    "PUT /marketplace/products/:product_id/reviews/:review_id/response": {"response": "Thanks."},
    "POST /marketplace/orders/:order_id/refund": {"reason": "Not as described"},
    "POST /sell/refunds/:refund_id/decline": {"reason": "It was downloaded."},
    "POST /admin/reports/:report_id/resolve": {"action": "dismiss"},
    "POST /admin/transfers/:transfer_id/hold": {"reason": "To be looked at."},
    "PUT /admin/feature-flags/:name": {"enabled": True},
    "POST /admin/announcements": ANNOUNCEMENT,
    "PUT /admin/users/:user_id/role": {"role": "user"},
    "PUT /users/me": {},
    "POST /users/me/privacy/opt-out": {"do_not_sell": True},
}

FILES: Final[Mapping[str, tuple[str, bytes, str]]] = {
    "POST /cloud/files": ("take.wav", b"RIFF", "audio/wav"),
    "PUT /cloud/files/:file_id/content": ("take.wav", b"RIFF", "audio/wav"),
    "POST /inventory/gear/:gear_id/documents": ("manual.pdf", PDF, "application/pdf"),
    "POST /marketplace/products/:product_id/files": TEXT,
    "POST /marketplace/products/:product_id/cover": MEDIA["cover"],
    "POST /marketplace/products/:product_id/preview": MEDIA["preview"],
}


async def call_of(world: World, route: str, occasion: Occasion) -> Call:
    """How ``route``, as the table has it, is called for once."""
    bare, _, variant = route.partition(" (")
    call = Call(ids=ids_of(world, bare, variant.rstrip(")")))
    if bare in JSON:
        call.sent["json"] = JSON[bare]
    if bare in FILES:
        call.sent["files"] = {"file": FILES[bare]}
    if occasion.fresh and route in FRESH:
        name, make = FRESH[route]
        call.ids[name] = await make(world)
    if fill := MAKERS.get(route) or MAKERS.get(bare):
        await fill(world, occasion, call)
    return call


def ids_of(world: World, route: str, variant: str = "") -> dict[str, str]:
    """The parameters of a route's path: what they are of Ana's."""
    path = route.partition(" ")[2]
    things = next((of for beginning, of in THINGS.items() if path.startswith(beginning)), {})
    named = {**things, **THINGS_OF.get(route, {}), **(VARIANTS[variant] if variant else {})}
    told = {name: world.things[thing] for name, thing in named.items() if thing in world.things}
    return {name: (PLAIN | told)[name] for name in re.findall(r":(\w+)", path) if name in PLAIN | told}


# -- what takes more ---------------------------------------------------------------------------------------------------

Fill = Callable[[World, Occasion, Call], Awaitable[None]]
MAKERS: Final[dict[str, Fill]] = {}


def makes(*routes: str) -> Callable[[Fill], Fill]:
    def register(fill: Fill) -> Fill:
        MAKERS.update(dict.fromkeys(routes, fill))
        return fill

    return register


def _account(world: World, who: Who) -> Account:
    return {Who.ANOTHER: world.zoe, Who.ADMIN: world.admin}.get(who, world.ana)


@makes("POST /auth/register")
async def _register(world: World, occasion: Occasion, call: Call) -> None:
    name = f"newcomer-{next(world.numbers)}"
    call.sent["json"] = {"username": name, "email": f"{name}@veza.example", "password": PASSWORD}


@makes("POST /auth/login")
async def _login(world: World, occasion: Occasion, call: Call) -> None:
    name = {Who.ANOTHER: "zoe"}.get(occasion.who, "ana")
    email = ADMIN_EMAIL if occasion.who is Who.ADMIN else f"{name}@veza.example"
    call.sent["json"] = {"email": email, "password": PASSWORD}


@makes("POST /console/login")
async def _come_to_the_console(_world: World, _occasion: Occasion, call: Call) -> None:
    call.sent["data"] = {"email": ADMIN_EMAIL, "password": PASSWORD}


@makes("POST /auth/refresh")
async def _refresh(world: World, occasion: Occasion, call: Call) -> None:
    token = world.tokens.refresh(await world.session(_account(world, occasion.who)))
    call.sent["json"] = {"refresh_token": token}


@makes("DELETE /auth/sessions")
async def _sign_out(world: World, occasion: Occasion, call: Call) -> None:
    await _by_a_newcomer(world, occasion, call)


@makes("PUT /users/me/password")
async def _password(world: World, occasion: Occasion, call: Call) -> None:
    call.sent["json"] = {"current_password": PASSWORD, "new_password": PASSWORD}
    await _by_a_newcomer(world, occasion, call)


@makes("DELETE /users/me")
async def _erase(world: World, occasion: Occasion, call: Call) -> None:
    call.sent["json"] = {"password": PASSWORD}
    await _by_a_newcomer(world, occasion, call)


async def _by_a_newcomer(world: World, occasion: Occasion, call: Call) -> None:
    """What costs its caller their account or their sessions is not for those on whom the world rests."""
    if occasion.fresh:
        call.by = await world.newcomer(admin=occasion.who is Who.ADMIN)


@makes("POST /reports")
async def _report(world: World, occasion: Occasion, call: Call) -> None:
    """Each time of somebody else: of one whom one has reported there is a report."""
    user_id = await _newcomer(world) if occasion.fresh else world.eve.id
    call.sent["json"] = {"content_type": "user", "content_id": user_id, "reason": "Spam."}


@makes("POST /users/me/export")
async def _export(world: World, occasion: Occasion, call: Call) -> None:
    """Whoever asked for one did so days ago."""
    world.run("UPDATE exports SET created_at = created_at - interval '2 days'")


@makes("POST /marketplace/orders")
async def _order(world: World, occasion: Occasion, call: Call) -> None:
    call.sent["json"] = {"items": [{"product_id": world.bought["id"], "quantity": 1}]}


@makes("DELETE /marketplace/products/:product_id/files/:file_id")
async def _product_file(world: World, occasion: Occasion, call: Call) -> None:
    if occasion.fresh:
        product = await world.draft()
        call.ids |= {"product_id": product["id"], "file_id": product["file_id"]}


@makes("DELETE /marketplace/products/:product_id/cover", "DELETE /marketplace/products/:product_id/preview")
async def _media(world: World, occasion: Occasion, call: Call) -> None:
    if occasion.fresh:
        call.ids["product_id"] = await _draft(world)


@makes("POST /inventory/gear/:gear_id/documents")
async def _document(world: World, occasion: Occasion, call: Call) -> None:
    call.sent["data"] = {"type": "manual"}


@makes("DELETE /live/streams/:stream_id (a draft)")
async def _draft_stream(world: World, occasion: Occasion, call: Call) -> None:
    """One's only draft is made with the first key one asks for."""
    if occasion.fresh:
        call.by = await world.newcomer()
        call.ids["stream_id"] = data(await world.house.get("/live/streams/me/key", call.by))["stream_id"]


@makes("GET /sell/connect/return", "GET /sell/connect/refresh")
async def _state(world: World, occasion: Occasion, call: Call) -> None:
    call.sent["params"] = {"state": world.things["state"]}


@makes("GET /tags/suggest")
async def _tags(world: World, occasion: Occasion, call: Call) -> None:
    call.sent["params"] = {"q": "hip"}


@makes(*(f"POST /admin/actors/:path/{action}" for action in Action))
async def _actor(world: World, occasion: Occasion, call: Call) -> None:
    seen = await world.house.get(f"/admin/actors/{call.ids['path']}", world.admin)
    call.sent |= {"headers": {"If-Match": seen.headers["ETag"]}, "json": {"reason": "A test."}}


@makes("POST /admin/actors/:path/restart")
async def _restart(world: World, occasion: Occasion, call: Call) -> None:
    """Of another actor: what is asked of the first means its incarnation."""
    call.ids["path"] = "veza/warranties"
    await _actor(world, occasion, call)


@makes("PUT /admin/feature-flags/:name")
async def _flag(world: World, occasion: Occasion, call: Call) -> None:
    call.ids["name"] = "exports.enabled"


@makes("PUT /admin/maintenance")
async def _maintenance(world: World, occasion: Occasion, call: Call) -> None:
    call.sent["json"] = {"enabled": occasion.closed}


# -- what others sign --------------------------------------------------------------------------------------------------


@makes("POST /webhooks/hyperswitch")
async def _hyperswitch(world: World, occasion: Occasion, call: Call) -> None:
    body = event("pay_nobody", f"evt_{uuid4().hex}")
    call.sent |= {"content": body, "headers": {"Content-Type": "application/json"}}
    if occasion.who is Who.OWNER:
        call.sent["headers"]["X-Webhook-Signature-512"] = world.shop.signature(body)


@makes("POST /webhooks/stripe")
async def _stripe(world: World, occasion: Occasion, call: Call) -> None:
    about = {"object": {"id": "tr_nobody"}}
    body = json.dumps({"id": f"evt_{uuid4().hex}", "object": "event", "type": "transfer.created", "data": about})
    call.sent |= {"content": body, "headers": {"Content-Type": "application/json"}}
    if occasion.who is Who.OWNER:
        key, sent_at = world.house.sandbox.config.stripe_webhook_secret, int(time.time())
        signature = hmac.new(key.encode(), f"{sent_at}.{body}".encode(), "sha256").hexdigest()
        call.sent["headers"]["Stripe-Signature"] = f"t={sent_at},v1={signature}"


@makes("POST /hooks/rtmp/:token/publish")
async def _publish(world: World, occasion: Occasion, call: Call) -> None:
    call.ids["token"] = _hook_token(occasion)
    call.sent["content"] = hook("publish", (await world.stream())[1] if occasion.fresh else world.things["key"])


@makes("POST /hooks/rtmp/:token/publish_done")
async def _publish_done(world: World, occasion: Occasion, call: Call) -> None:
    call.ids["token"] = _hook_token(occasion)
    call.sent["content"] = hook("publish_done", world.things["key"])


@makes("POST /hooks/mediamtx/:token/auth")
async def _mediamtx(world: World, occasion: Occasion, call: Call) -> None:
    call.ids["token"] = _hook_token(occasion)
    call.sent["json"] = {"action": "read", "path": world.things["stream"], "protocol": "hls"}


def _hook_token(occasion: Occasion) -> str:
    return HOOK_TOKEN if occasion.who is Who.OWNER else "guessed"
