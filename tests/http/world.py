"""A house in which somebody has something of everything there is, made over HTTP as its people would make it.

Ana owns all of it: she sells, buys of Eve, streams, and keeps files and gear. Ben buys of Ana. Zoe has nothing.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from itertools import count, product
from pathlib import Path
from random import Random
from typing import Any
from uuid import UUID

import httpx
from pydantic import SecretStr

from tests.gateways.scripted_server import ScriptedServer, answer, scripted_server
from tests.house import PASSWORD, Account, House, running_house
from tests.sales import Sales
from tests.shop import ORDERS, PRODUCTS, Json, Shop, data
from veza.domain.accounts import Session, SessionEnd, begin_session
from veza.domain.gear import warranty_news
from veza.domain.ids import IdMint, utc_now
from veza.http.states import States
from veza.http.tokens import Tokens
from veza.store.bridge import Database
from veza.store.sessions import Sessions, open_session

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256))
MP3 = b"ID3\x03" + bytes(64)
MEDIA = {"cover": ("cover.png", PNG, "image/png"), "preview": ("preview.mp3", MP3, "audio/mpeg")}
PDF = b"%PDF-1.7\n%%EOF\n"
TEXT = ("notes.txt", b"Mind the hum.", "text/plain")
HOOK_TOKEN = "hooks-of-the-tests-1"
APPLICATION = "live"
ANNOUNCEMENT = {"title": "Moving", "content": "We move on Sunday.", "type": "info"}
CONTROL = "/control"


class Stale(StrEnum):
    """Tokens that let nobody in any more, or never did."""

    EXPIRED = "an expired token"
    REFRESH = "a refresh token"
    ENDED = "a token of an ended session"
    BANNED = "a token of somebody banned"
    ERASED = "a token of an erased account"


@dataclass
class World:
    """``things``: ids and tokens of what Ana has, by what they are."""

    house: House
    db: Database
    ingest: ScriptedServer
    ana: Account
    ben: Account
    eve: Account
    zoe: Account
    admin: Account
    things: dict[str, str] = field(default_factory=dict)
    numbers: Iterator[int] = field(default_factory=lambda: count(1))

    def __post_init__(self) -> None:
        self.shop = Shop(self.house)
        self.sales = Sales(self.db)
        self.new_id = IdMint(utc_now, Random(11))
        self.secret = self.house.settings.jwt_secret.get_secret_value().encode()
        self.tokens = Tokens(self.secret, utc_now, self.new_id)

    # -- people --------------------------------------------------------------------------------------------------------

    async def session(self, account: Account) -> Session:
        """A session that was just begun."""
        session = begin_session(UUID(account.id), self.new_id, utc_now())
        async with self.db.transaction() as tx:
            await open_session(tx, session)
        return session

    async def token(self, account: Account) -> str:
        return self.tokens.access(await self.session(account))

    async def newcomer(self, *, admin: bool = False) -> Account:
        """Somebody who has nothing to lose."""
        account = await self.house.sign_up(f"newcomer-{next(self.numbers)}")
        if admin:
            self.run("UPDATE users SET role = 'admin' WHERE id = %s", account.id)
        return account

    async def stale(self) -> dict[Stale, str]:
        """A token of each kind that holds no longer."""
        session, over = await self.session(self.ana), await self.session(self.ana)
        await Sessions(self.db).end(over.user_id, SessionEnd.ENDED_BY_USER, utc_now(), only=over.id)
        banned, erased = await self.newcomer(), await self.newcomer()
        data(await self.house.post(f"/admin/users/{banned.id}/ban", self.admin, json={"reason": "Spam."}))
        left = await self.house.request("DELETE", "/users/me", erased, json={"password": PASSWORD})
        assert data(left)["deleted"] is True
        long_ago = Tokens(self.secret, lambda: utc_now() - timedelta(hours=2), self.new_id)
        return {
            Stale.EXPIRED: long_ago.access(session),
            Stale.REFRESH: self.tokens.refresh(session),
            Stale.ENDED: self.tokens.access(over),
            Stale.BANNED: banned.token,
            Stale.ERASED: erased.token,
        }

    def run(self, sql: str, *args: object) -> list[tuple[Any, ...]]:
        return self.shop.run(sql, *args)

    # -- selling and buying --------------------------------------------------------------------------------------------

    async def ordered(self, product: Json) -> str:
        """Ana's order, to be paid."""
        return str((await self.shop.ordered(self.ana, product))["id"])

    async def paid(self, product: Json) -> str:
        order: Json = await self.shop.bought(self.ana, product)
        return str(order["id"])

    async def free(self, **fields: object) -> Json:
        """A product of Eve's that costs nothing: it is bought as soon as it is ordered."""
        return await self.shop.on_sale(self.eve, price_cents=0, **fields)

    async def review(self, by: Account, product: Json) -> str:
        """A review of a product that costs nothing, bought for it."""
        await self.shop.ordered(by, product)
        return await self.made(f"{PRODUCTS}/{product['id']}/reviews", by, json={"rating": 5, "comment": "Warm."})

    async def requested_refund(self) -> str:
        """Of what Ben bought of Ana, and has downloaded."""
        order: Json = await self.shop.bought(self.ben, self.sold)
        path = f"{ORDERS}/{order['id']}"
        file_id = await self._download(self.ben, order["id"])
        (await self.house.get(f"{path}/downloads/{file_id}", self.ben)).raise_for_status()
        data(await self.house.post(f"{path}/refund", self.ben, json={"reason": "It hums."}))
        [refund] = data(await self.house.get(f"{path}/refunds", self.ben))["refunds"]
        assert refund["status"] == "requested"
        return str(refund["id"])

    async def transfer(self, held: str) -> str:
        """One of somebody who has no account at the payout provider."""
        return str(await self.sales.sale(await self.sales.seller(), held=held))

    # -- making --------------------------------------------------------------------------------------------------------

    async def made(self, path: str, by: Account | None = None, **sent: Any) -> str:
        """The id of what a POST of Ana's makes, unless it is another's."""
        return str(data(await self.house.post(path, by or self.ana, **sent))["id"])

    async def draft(self) -> Json:
        """A product with one file that is not published."""
        product: Json = await self.shop.draft(self.ana)
        file = data(await self.shop.upload(self.ana, product))
        return product | {"file_id": file["id"]}

    async def file(self) -> str:
        """A cloud file."""
        return await self.made("/cloud/files", files={"file": ("take.wav", b"RIFF", "audio/wav")})

    async def snapshot(self) -> str:
        """A cloud file of which version 1 was snapshotted."""
        file_id = await self.file()
        await self.made(f"/cloud/files/{file_id}/versions")
        return file_id

    async def gear(self) -> str:
        return await self.made("/inventory/gear", json={"name": "Tape machine"})

    async def document(self, gear_id: str) -> str:
        """A document of that item's."""
        sent = {"file": ("manual.pdf", PDF, "application/pdf")}
        return await self.made(f"/inventory/gear/{gear_id}/documents", files=sent, data={"type": "manual"})

    async def repair(self, gear_id: str) -> str:
        sent = {"repair_date": "2026-02-15", "description": "New heads"}
        return await self.made(f"/inventory/gear/{gear_id}/repairs", json=sent)

    async def notification(self) -> str:
        """One that Ana has not read."""
        news = warranty_news(UUID(self.things["gear"]), "Tape machine", utc_now().date())
        [(number,)] = self.run(
            "INSERT INTO notification_numbers AS n (user_id, last) VALUES (%s, 1)"
            " ON CONFLICT (user_id) DO UPDATE SET last = n.last + 1 RETURNING last",
            self.ana.id,
        )
        [(made,)] = self.run(
            "INSERT INTO notifications (id, user_id, number, kind, title, body, data)"
            " VALUES (%s, %s, %s, %s, %s, %s, %s) RETURNING id::text",
            *(self.new_id(), self.ana.id, number, news.kind, news.title, news.body, json.dumps(news.data)),
        )
        return str(made)

    async def announcement(self) -> str:
        """What the admin announces."""
        return await self.made("/admin/announcements", self.admin, json=ANNOUNCEMENT)

    async def report(self) -> str:
        """Ana's, of somebody new."""
        somebody = await self.newcomer()
        return await self.made("/reports", json={"content_type": "user", "content_id": somebody.id, "reason": "Spam."})

    # -- on air --------------------------------------------------------------------------------------------------------

    async def stream(self) -> tuple[str, str]:
        """A stream of Ana's, and its key."""
        stream_id = await self.made("/live/streams", json={"title": "Sunday"})
        return stream_id, await self.key(stream_id)

    async def key(self, stream_id: str) -> str:
        """A stream's key. The ingest server drops its encoder when it is told to."""
        drop = f"GET {CONTROL}/drop/publisher?app={APPLICATION}&name={stream_id}"
        self.ingest.answers[drop] = answer(b"1")
        return str(data(await self.house.get(f"/live/streams/me/key?stream_id={stream_id}", self.ana))["stream_key"])

    async def on_air(self) -> str:
        """A stream to which an encoder publishes."""
        stream_id, key = await self.stream()
        await self.publish(key)
        return stream_id

    async def publish(self, key: str) -> None:
        answered = await self.house.post(f"/hooks/rtmp/{HOOK_TOKEN}/publish", content=hook("publish", key))
        assert answered.status_code == 302, answered.text

    # -- everything ----------------------------------------------------------------------------------------------------

    async def fill(self) -> None:
        """Give Ana something of everything."""
        await self._fill_the_shop()
        await self._fill_the_cupboards()
        self.things["draft_stream"] = data(await self.house.get("/live/streams/me/key", self.ana))["stream_id"]
        self.things["stream"], self.things["key"] = await self.stream()
        self.things["user"] = self.ana.id
        self.things["session"] = str((await self.session(self.ana)).id)
        self.things["notification"] = await self.notification()
        self.things["announcement"] = await self.announcement()
        self.things["report"] = await self.report()
        self.things["state"] = States(self.secret, utc_now).sign(UUID(self.ana.id))
        self.things["export"] = await self.made("/users/me/export")

    async def _fill_the_shop(self) -> None:
        link = data(await self.house.post("/sell/connect/onboard", self.ana))["onboarding_url"]
        await self.house.http.post(link, follow_redirects=True)
        self.sold: Json = await self.shop.on_sale(self.ana, title="Ana's track")
        self.bought: Json = await self.shop.on_sale(self.eve, title="Eve's track")
        draft = await self.draft()
        for of, kind in product([self.sold, draft], MEDIA):
            data(await self.house.post(f"{PRODUCTS}/{of['id']}/{kind}", self.ana, files={"file": MEDIA[kind]}))
        await self._buy()
        gift, theirs = await self.free(title="Eve's gift"), await self.shop.on_sale(self.ana, price_cents=0)
        unreviewed = await self.free(title="Eve's other gift")
        await self.shop.ordered(self.ana, unreviewed)
        self.things |= {
            "product": self.sold["id"],
            "draft": draft["id"],
            "draft_file": draft["file_id"],
            "gift": gift["id"],
            "review": await self.review(self.ana, gift),
            "theirs": theirs["id"],
            "review_of_theirs": await self.review(self.ben, theirs),
            "unreviewed": unreviewed["id"],
            "requested_refund": await self.requested_refund(),
            "transfer": await self.transfer("admin"),
        }

    async def _buy(self) -> None:
        """One order that is paid, one that is not, one that was refunded; and one of Ben's of what Ana sells."""
        order, refunded = await self.paid(self.bought), await self.paid(self.bought)
        download = await self._download(self.ana, order)
        link = data(await self.house.post(f"{ORDERS}/{order}/downloads/{download}/link", self.ana))["url"]
        sold = str((await self.shop.bought(self.ben, self.sold))["id"])
        self.things |= {
            "order": order,
            "download": download,
            "unpaid": await self.ordered(self.bought),
            "refunded": refunded,
            "refund": await self._refund(self.ana, refunded),
            "object": httpx.URL(link).path.rpartition("/")[2],
            "sold_order": sold,
            "sold_download": await self._download(self.ben, sold),
            "sold_refund": await self._refund(self.ben, sold),
        }

    async def _download(self, buyer: Account, order_id: str) -> str:
        """A file of an order."""
        file, *_ = data(await self.house.get(f"{ORDERS}/{order_id}/downloads", buyer))["downloads"]
        return str(file["id"])

    async def _refund(self, buyer: Account, order_id: str) -> str:
        """An order's refund, once the buyer has it back."""
        data(await self.house.post(f"{ORDERS}/{order_id}/refund", buyer, json={"reason": "Not as described"}))
        await self.shop.until_status(buyer, {"id": order_id}, "refunded")
        [refund] = data(await self.house.get(f"{ORDERS}/{order_id}/refunds", buyer))["refunds"]
        return str(refund["id"])

    async def _fill_the_cupboards(self) -> None:
        file_id, gear_id = await self.snapshot(), await self.gear()
        share = data(await self.house.post(f"/cloud/files/{file_id}/share", self.ana, json={}))
        self.things |= {
            "file": file_id,
            "share": share["id"],
            "share_token": share["token"],
            "gear": gear_id,
            "document": await self.document(gear_id),
            "repair": await self.repair(gear_id),
        }


def hook(call: str, key: str) -> bytes:
    """What nginx-rtmp sends; see what was recorded of it in tests/gateways."""
    before = f"app={APPLICATION}&flashver=FMLE/3.0&swfurl=&tcurl=rtmp://192.0.2.9/{APPLICATION}&pageurl="
    return f"{before}&addr=192.0.2.1&clientid=1&call={call}&name={key}&type=live".encode()


@asynccontextmanager
async def running_world(dsn: str, tmp_path: Path, **settings: Any) -> AsyncIterator[World]:
    """A whole world over ``dsn``; keyword arguments override the house's settings."""
    async with scripted_server() as ingest, Database.open(dsn, size=2) as db:
        on_air: dict[str, Any] = {
            "rtmp_url": f"rtmp://127.0.0.1/{APPLICATION}",
            "hls_base_url": f"{ingest.url}/hls",
            "ingest_stat_url": f"{ingest.url}/stat",
            "ingest_control_url": f"{ingest.url}{CONTROL}",
            "ingest_hook_token": SecretStr(HOOK_TOKEN),
        }
        async with running_house(dsn, tmp_path, **(on_air | settings)) as house:
            ana, ben, eve, zoe = [await house.sign_up(name) for name in ("ana", "ben", "eve", "zoe")]
            world = World(house, db, ingest, ana, ben, eve, zoe, await house.admin())
            await world.fill()
            yield world
