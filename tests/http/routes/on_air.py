"""The front desk with a live tree behind it: real rows, real HTTP, and an ingest server in memory, polled quickly."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from uuid import UUID

import httpx
import trio

from tests.actors.live_fakes import FakeServer, Station, open_station
from tests.http.desk import Desk, Pair, open_desk
from tests.shop import data
from veza.domain.live import StreamState, Timing
from veza.domain.stream_keys import StreamKeys
from veza.http.parts import Broadcasting
from veza.store.bridge import Database
from veza.store.live import LiveRows
from veza.store.streams import Streams

TOKEN = "hooks-of-the-tests-1"
QUICK = Timing(poll=0.05, stall=0.3, grace=5)


@dataclass
class OnAir:
    desk: Desk
    station: Station
    keys: StreamKeys

    async def until(self, stream_id: UUID, state: StreamState | None) -> None:
        while self.station.state(stream_id) is not state:  # noqa: ASYNC110 - a state is read, as pollers do
            await trio.sleep(0.01)

    async def live(self, user: Pair) -> UUID:
        """A stream that is on air."""
        stream_id = await self.stream(user)
        await self.publish(self.key(stream_id))
        self.station.server.connect(stream_id)
        await self.until(stream_id, StreamState.LIVE)
        return stream_id

    async def stream(self, user: Pair, title: str = "Sunday") -> UUID:
        headers = {"Authorization": f"Bearer {user.access}"}
        made = data(await self.desk.http.post("/live/streams", json={"title": title}, headers=headers))
        return UUID(made["id"])

    def key(self, stream_id: UUID, version: int = 1) -> str:
        return self.keys.key(stream_id, version)

    async def hook(self, call: str, body: str | bytes, token: str = TOKEN) -> httpx.Response:
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        return await self.desk.http.post(f"/hooks/rtmp/{token}/{call}", content=body, headers=headers)

    async def publish(self, key: str, client: str = "1", address: str = "192.0.2.1", more: str = "") -> httpx.Response:
        """As nginx-rtmp asks; see what was recorded of it in tests/gateways."""
        return await self.hook("publish", form("publish", key, client, address) + more)

    async def done(self, key: str, client: str = "1") -> httpx.Response:
        return await self.hook("publish_done", form("publish_done", key, client))


def form(call: str, key: str, client: str, address: str = "192.0.2.1", app: str = "live") -> str:
    before = f"app={app}&flashver=FMLE/3.0&swfurl=&tcurl=rtmp://192.0.2.9/{app}&pageurl="
    return f"{before}&addr={address}&clientid={client}&call={call}&name={key}&type=live"


@asynccontextmanager
async def open_on_air(
    db: Database, server: FakeServer | None = None, others: Mapping[str, object] | None = None
) -> AsyncIterator[OnAir]:
    """``others`` are further parts."""
    rows, keys = LiveRows(db, UUID(int=0xA1)), StreamKeys(b"s" * 32)
    async with open_station(server, rows=rows, timing=QUICK) as station:
        more: dict[str, object] = {
            "streams": Streams(db),
            "sessions_on_air": rows,
            "refs": SimpleNamespace(live=station.live),
            "broadcasting": Broadcasting(keys, "rtmp://192.0.2.9/live", "http://192.0.2.9/hls", "live", TOKEN),
            **(others or {}),
        }
        async with open_desk(db, more=more) as desk:
            yield OnAir(desk, station, keys)
