"""Streams over HTTP: who sees, changes and ends them, whose keys hold, and what is told of them on air."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from types import SimpleNamespace
from typing import cast
from uuid import UUID, uuid4

import httpx
import pytest
import trio

from tests.house import Account, House
from tests.http.desk import Desk, Pair, open_desk, refusal, signed
from tests.people import NOON
from tests.shop import Json, data
from veza.actors.core import Overloaded
from veza.actors.live import Live, NoSessions
from veza.actors.session_holder import HolderRef, HolderView
from veza.actors.stream_session import EndSession, SessionRef
from veza.domain.audience import Audience
from veza.domain.catalog import MAX_TAGS
from veza.domain.errors import Unavailable
from veza.domain.ingest import Audio, Publisher, Seen, Video, Watch
from veza.domain.live import SessionEnd, StreamSession, StreamState
from veza.domain.stream_keys import KeyClaim, StreamKeys
from veza.domain.streams import MAX_STREAMS
from veza.http.parts import Broadcasting
from veza.store.bridge import Database
from veza.store.streams import Streams

STREAMS = "/live/streams"
MINE = f"{STREAMS}/me"
KEY = f"{MINE}/key"
REGENERATE = f"{KEY}/regenerate"


@pytest.fixture
async def air(house: House) -> AsyncIterator[House]:
    with trio.fail_after(30):
        yield house


async def made(house: House, by: Account, title: str = "Sunday", **fields: object) -> Json:
    answer = await house.post(STREAMS, by, json={"title": title, **fields})
    assert answer.status_code == 201, answer.text
    stream: Json = data(answer)
    return stream


def path(stream: Json, rest: str = "") -> str:
    return f"{STREAMS}/{stream['id']}{rest}"


def claim(house: House, key: str) -> KeyClaim | None:
    return StreamKeys(house.settings.stream_key_secret.get_secret_value().encode()).read(key)


# -- streams ----------------------------------------------------------------------------------------------------------


async def test_a_stream_is_everyones_to_see_and_off_air_until_somebody_publishes(air: House) -> None:
    ann = await air.sign_up("ann")
    stream = await made(
        air, ann, "  Sunday session ", description="Beats.", category="Live  Music", tags=["House", "house", "deep"]
    )
    assert stream == {
        "id": stream["id"],
        "user_id": ann.id,
        "user": {"id": ann.id, "username": "ann"},
        "title": "Sunday session",
        "description": "Beats.",
        "category": "live music",
        "tags": ["house", "deep"],
        "draft": False,
        "state": "offline",
        "is_live": False,
        "viewer_count": 0,
        "started_at": None,
        "playback": {"hls_url": f"{air.settings.players_url}/{stream['id']}/index.m3u8", "ready": False},
        "video": None,
        "audio": None,
        "created_at": stream["created_at"],
        "updated_at": stream["created_at"],
    }
    assert data(await air.get(path(stream))) == stream
    assert data(await air.get(STREAMS)) == {"streams": [stream], "total": 1}


async def test_the_list_is_filtered_and_paged(air: House) -> None:
    ann, bob = await air.sign_up("ann"), await air.sign_up("bob")
    one = await made(air, ann, "One", category="music", tags=["house"])
    two = await made(air, bob, "Two", category="talk", tags=["house"])
    data(await air.get(KEY, await air.sign_up("eve")))  # a draft

    async def ids(query: str) -> list[str]:
        return [each["id"] for each in data(await air.get(f"{STREAMS}?{query}"))["streams"]]

    assert await ids("") == [two["id"], one["id"]]
    assert await ids("limit=1&offset=1") == [one["id"]]
    assert await ids("category=MUSIC") == await ids(f"user_id={ann.id}") == [one["id"]]
    assert await ids("tag=House&is_live=false&colour=red&category=") == [two["id"], one["id"]]
    assert await ids("is_live=true") == []
    assert data(await air.get(f"{STREAMS}?limit=1"))["total"] == 2
    for query in (
        "is_live=maybe",
        "is_live=",
        "limit=0",
        "limit=101",
        "offset=-1",
        "user_id=ann",
        "tag=%00",
        "tag=" + 99 * "x",
    ):
        assert refusal(await air.get(f"{STREAMS}?{query}")) == (400, "invalid"), query


async def test_a_change_is_of_what_is_sent_and_a_fetched_stream_can_be_sent_back(air: House) -> None:
    ann = await air.sign_up("ann")
    stream = await made(air, ann, "One", description="Beats.", category="music", tags=["house"])
    changed = data(await air.put(path(stream), ann, json={"title": " Two "}))
    assert changed == {**stream, "title": "Two", "updated_at": changed["updated_at"]}
    assert changed["updated_at"] > stream["updated_at"]
    [mine] = data(await air.get(MINE, ann))["streams"]
    assert data(await air.put(path(stream), ann, json=mine)) == changed
    foreign = {"id": str(uuid4()), "user_id": str(uuid4()), "state": "live", "stream_key": "sk_mine", "is_live": True}
    assert data(await air.put(path(stream), ann, json=foreign)) == changed
    bare = data(await air.put(path(stream), ann, json={"category": None, "tags": [], "description": ""}))
    assert (bare["category"], bare["tags"], bare["description"], bare["title"]) == (None, [], "", "Two")


async def test_others_change_nothing_of_a_stream_admins_neither(air: House) -> None:
    ann, bob = await air.sign_up("ann"), await air.sign_up("bob")
    stream = await made(air, ann)
    for other in (bob, await air.admin()):
        assert refusal(await air.put(path(stream), other, json={"title": "Mine"})) == (403, "forbidden")
        assert refusal(await air.delete(path(stream), other)) == (403, "forbidden")
        assert refusal(await air.post(path(stream, "/end"), other)) == (403, "forbidden")
        assert refusal(await air.get(path(stream, "/sessions"), other)) == (403, "forbidden")
    assert refusal(await air.put(path(stream), json={"title": "Mine"})) == (401, "unauthenticated")
    assert refusal(await air.post(STREAMS, json={"title": "Mine"})) == (401, "unauthenticated")
    for private in (MINE, KEY, path(stream, "/sessions")):
        assert refusal(await air.get(private)) == (401, "unauthenticated")
    for door in (REGENERATE, path(stream, "/end")):
        assert refusal(await air.post(door)) == (401, "unauthenticated")
    assert refusal(await air.delete(path(stream))) == (401, "unauthenticated")
    assert data(await air.get(path(stream))) == stream


async def test_a_draft_is_its_owners_alone_until_it_has_a_title(air: House) -> None:
    ann, bob = await air.sign_up("ann"), await air.sign_up("bob")
    draft = {"id": data(await air.get(KEY, ann))["stream_id"]}
    seen = data(await air.get(path(draft), ann))
    assert (seen["draft"], seen["title"]) == (True, "")
    for other in (bob, await air.admin()):
        assert refusal(await air.get(path(draft), other)) == (404, "not_found")
        assert refusal(await air.put(path(draft), other, json={"title": "Mine"})) == (404, "not_found")
        assert refusal(await air.delete(path(draft), other)) == (404, "not_found")
        assert refusal(await air.post(path(draft, "/end"), other)) == (404, "not_found")
        assert refusal(await air.get(path(draft, "/sessions"), other)) == (404, "not_found")
    assert refusal(await air.get(path(draft))) == (404, "not_found")
    assert data(await air.put(path(draft), ann, json=seen))["draft"] is True
    assert data(await air.put(path(draft), ann, json={"title": "Here"}))["draft"] is False
    assert data(await air.get(path(draft)))["title"] == "Here"
    assert refusal(await air.put(path(draft), ann, json={"title": " "})) == (400, "invalid")


SENSELESS: Sequence[Json] = [
    {"title": None},
    {"title": ""},
    {"title": "  "},
    {"title": "x" * 201},
    {"title": "\u200b"},
    {"title": "a\u202eb"},
    {"title": "a\0"},
    {"title": 7},
    {"description": "x" * 5001},
    {"description": None},
    {"category": "x" * 41},
    {"category": ["music"]},
    {"tags": [str(n) for n in range(MAX_TAGS + 1)]},
    {"tags": ["x" * 100]},
    {"tags": [""]},
    {"tags": "house"},
    {"tags": None},
    {"colour": "red"},
]


async def test_streams_that_make_no_sense_are_refused_and_change_nothing(
    house: House, subtests: pytest.Subtests
) -> None:
    with trio.fail_after(30):
        ann = await house.sign_up("ann")
        stream = await made(house, ann)
        for fields in SENSELESS:
            with subtests.test(repr(fields)):
                assert refusal(await house.post(STREAMS, ann, json={"title": "One"} | fields)) == (400, "invalid")
                assert refusal(await house.put(path(stream), ann, json=fields)) == (400, "invalid")
                assert data(await house.get(STREAMS)) == {"streams": [stream], "total": 1}


async def test_what_is_no_stream_is_not_found(air: House) -> None:
    ann = await air.sign_up("ann")
    assert refusal(await air.post(STREAMS, ann, json={})) == (400, "invalid")
    assert refusal(await air.post(STREAMS, ann, json=["Sunday"])) == (400, "invalid")
    for nowhere in (str(uuid4()), "sunday"):
        stream = {"id": nowhere}
        assert refusal(await air.get(path(stream), ann)) == (404, "not_found")
        assert refusal(await air.put(path(stream), ann, json={"title": "Two"})) == (404, "not_found")
        assert refusal(await air.delete(path(stream), ann)) == (404, "not_found")
        assert refusal(await air.post(path(stream, "/end"), ann)) == (404, "not_found")
        assert refusal(await air.get(path(stream, "/sessions"), ann)) == (404, "not_found")


async def test_nobody_has_more_streams_than_there_is_room_for(air: House) -> None:
    ann = await air.sign_up("ann")
    for number in range(MAX_STREAMS):
        await made(air, ann, str(number))
    assert refusal(await air.post(STREAMS, ann, json={"title": "More"})) == (409, "too_many_streams")
    assert data(await air.get(f"{MINE}?limit=1", ann))["total"] == MAX_STREAMS


async def test_a_deleted_stream_is_gone_and_so_is_its_key(air: House) -> None:
    ann = await air.sign_up("ann")
    stream = await made(air, ann)
    assert data(await air.delete(path(stream), ann)) == {"deleted": True}
    assert refusal(await air.get(path(stream), ann)) == (404, "not_found")
    assert refusal(await air.delete(path(stream), ann)) == (404, "not_found")
    assert refusal(await air.get(f"{KEY}?stream_id={stream['id']}", ann)) == (404, "not_found")
    assert data(await air.get(MINE, ann)) == {"streams": [], "total": 0}


async def test_what_is_not_on_air_cannot_be_ended_and_was_never_on(air: House) -> None:
    ann = await air.sign_up("ann")
    stream = await made(air, ann)
    assert refusal(await air.post(path(stream, "/end"), ann)) == (409, "not_live")
    assert data(await air.get(path(stream, "/sessions"), ann)) == {"sessions": [], "total": 0}
    assert refusal(await air.get(path(stream, "/sessions?limit=0"), ann)) == (400, "invalid")


# -- keys -------------------------------------------------------------------------------------------------------------


async def test_twenty_requests_at_once_for_a_key_make_one_draft(air: House) -> None:
    ann = await air.sign_up("ann")
    keys: list[Json] = []

    async def ask() -> None:
        keys.append(data(await air.get(KEY, ann)))

    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(ask)
    [mine] = data(await air.get(MINE, ann))["streams"]
    assert keys == 20 * [{name: mine[name if name != "stream_id" else "id"] for name in keys[0]}]
    assert mine["rtmp_url"] == air.settings.encoder_url
    assert claim(air, mine["stream_key"]) == KeyClaim(UUID(mine["id"]), 1)
    assert (mine["draft"], mine["ingest"]) == (True, None)


async def test_the_newest_streams_key_is_told_unless_another_is_named(air: House) -> None:
    ann, bob = await air.sign_up("ann"), await air.sign_up("bob")
    old, new = await made(air, ann), await made(air, ann)
    assert data(await air.get(KEY, ann))["stream_id"] == new["id"]
    named = data(await air.get(f"{KEY}?stream_id={old['id']}", ann))
    assert claim(air, named["stream_key"]) == KeyClaim(UUID(old["id"]), 1)
    assert refusal(await air.get(f"{KEY}?stream_id={old['id']}", bob)) == (404, "not_found")
    assert refusal(await air.get(f"{KEY}?stream_id={uuid4()}", ann)) == (404, "not_found")
    assert refusal(await air.get(f"{KEY}?stream_id=newest", ann)) == (400, "invalid")
    assert [each["id"] for each in data(await air.get(f"{MINE}?limit=1&offset=1", ann))["streams"]] == [old["id"]]


async def test_regenerating_replaces_all_of_ones_keys_or_the_one_that_is_named(air: House) -> None:
    ann, bob = await air.sign_up("ann"), await air.sign_up("bob")
    old, new, other = await made(air, ann), await made(air, ann), await made(air, bob)

    async def versions() -> list[int]:
        told = [await air.get(MINE, by) for by in (ann, bob)]
        claims = [claim(air, each["stream_key"]) for answer in told for each in data(answer)["streams"]]
        return [each.version for each in claims if each is not None]

    everything = data(await air.post(REGENERATE, ann))  # without a body, and without a Content-Type
    assert everything == {**data(await air.get(KEY, ann)), "live_session_dropped": False}
    assert everything["stream_id"] == new["id"]
    assert await versions() == [2, 2, 1]
    one = data(await air.post(REGENERATE, ann, json={"stream_id": old["id"]}))
    assert claim(air, one["stream_key"]) == KeyClaim(UUID(old["id"]), 3)
    data(await air.post(f"{REGENERATE}?stream_id={old['id']}", ann))
    assert await versions() == [2, 4, 1]
    assert refusal(await air.post(REGENERATE, ann, json={"stream_id": other["id"]})) == (404, "not_found")
    assert refusal(await air.post(f"{REGENERATE}?stream_id={uuid4()}", ann)) == (404, "not_found")
    for wrong in ({"stream_id": "newest"}, {"stream_id": 7}, {"id": old["id"]}, ["all"]):
        assert refusal(await air.post(REGENERATE, ann, json=wrong)) == (400, "invalid")
    assert await versions() == [2, 4, 1]


async def test_regenerating_without_a_stream_makes_a_draft(air: House) -> None:
    ann = await air.sign_up("ann")
    told = data(await air.post(REGENERATE, ann))
    assert told == {**data(await air.get(KEY, ann)), "live_session_dropped": False}
    assert data(await air.get(path({"id": told["stream_id"]}), ann))["draft"] is True


async def test_keys_are_kept_by_nobody_and_shown_nowhere_else(air: House) -> None:
    ann = await air.sign_up("ann")
    stream = await made(air, ann)
    for shown in (await air.get(MINE, ann), await air.get(KEY, ann), await air.post(REGENERATE, ann)):
        assert shown.headers["Cache-Control"] == "private, no-store"
        assert "sk_" in shown.text
    for hidden in (
        await air.get(path(stream), ann),
        await air.put(path(stream), ann, json={"title": "Two"}),
        await air.get(f"{STREAMS}?user_id={ann.id}", ann),
        await air.get(path(stream, "/sessions"), ann),
        await air.post(path(stream, "/end"), ann),
        await air.post(STREAMS, ann, json={"title": "Three"}),
    ):
        assert "sk_" not in hidden.text
        assert "rtmp" not in hidden.text


# -- on air -----------------------------------------------------------------------------------------------------------


@dataclass
class FakeSession:
    """What a session's actor is to those who ask: its snapshot, and an answer to being ended."""

    snapshot: StreamSession | None
    answer: object = True
    ends: list[SessionEnd] = field(default_factory=list)

    async def ask(self, message: EndSession) -> object:
        self.ends.append(message.why)
        if isinstance(self.answer, Exception) and not isinstance(self.answer, Unavailable):
            raise self.answer
        return self.answer


@dataclass
class FakeSessions:
    on: dict[UUID, FakeSession] = field(default_factory=dict)

    def start(self, key: UUID) -> SessionRef:
        return cast(SessionRef, self.on.setdefault(key, FakeSession(None, answer=False)))

    def get(self, key: UUID) -> SessionRef | None:
        return cast("SessionRef | None", self.on.get(key))

    def children(self) -> list[tuple[UUID, SessionRef]]:
        return [(key, cast(SessionRef, ref)) for key, ref in self.on.items()]


@dataclass
class Studio:
    """A front desk with sessions that a test puts on air."""

    desk: Desk
    sessions: FakeSessions
    audience: Audience
    watches: dict[UUID, Watch]
    ann: Pair

    async def make(self, title: str = "Sunday") -> Json:
        self.desk.clock.move(timedelta(milliseconds=1))  # what is made later has the greater id
        made: Json = data(await self.call("POST", STREAMS, {"title": title}))
        return made

    async def call(self, method: str, path: str, body: object = None) -> httpx.Response:
        return await self.desk.http.request(method, path, json=body, headers=signed(self.ann.access))

    async def put_on_air(
        self, stream: Json, state: StreamState = StreamState.LIVE, *, ready: bool = True, answer: object = True
    ) -> FakeSession:
        """An open session, as its actor publishes it and as its row is."""
        stream_id, session_id = UUID(stream["id"]), self.desk.parts.new_id()
        session = StreamSession(
            id=session_id,
            stream_id=stream_id,
            state=state,
            publisher=Publisher("nginx-rtmp", "7", "boot"),
            key_version=1,
            changes=2,
            started_at=NOON,
            live_at=None if state is StreamState.STARTING else NOON + timedelta(seconds=3),
            bytes_before=1000,
            ready=ready,
            video=Video("H264", 1280, 720, 29.97, "High", "3.1"),
            audio=Audio("AAC", "LC", 2, 48_000),
        )
        async with self.desk.db.transaction() as tx:
            await tx.execute(
                "INSERT INTO stream_sessions (id, stream_id, state, holder, key_version, started_at, live_at)"
                " VALUES ($1, $2, $3, $1, 1, $4, $5)",
                session_id,
                stream_id,
                state,
                session.started_at,
                session.live_at,
            )
        self.sessions.on[stream_id] = FakeSession(session, answer)
        return self.sessions.on[stream_id]

    def watch(self, stream: Json, viewers: int) -> None:
        for viewer in range(viewers):
            self.audience.see(UUID(stream["id"]), viewer, trio.current_time())


@asynccontextmanager
async def open_studio(db: Database) -> AsyncIterator[Studio]:
    sessions, audience, watches = FakeSessions(), Audience(), dict[UUID, Watch]()
    holder = cast(HolderRef, SimpleNamespace(snapshot=HolderView(trio.current_time())))
    station = Broadcasting(StreamKeys(b"s" * 32), "rtmp://ingest.example/live", "https://hls.example", "live", "")
    more: Mapping[str, object] = {
        "streams": Streams(db),
        "broadcasting": station,
        "refs": SimpleNamespace(live=Live(sessions, audience, watches, holder=holder)),
    }
    async with open_desk(db, more=more) as desk:
        yield Studio(desk, sessions, audience, watches, await desk.sign_up("ann"))


@pytest.fixture
async def studio(db: Database) -> AsyncIterator[Studio]:
    with trio.fail_after(30):
        async with open_studio(db) as opened:
            yield opened


async def test_a_stream_on_air_tells_what_its_session_knows(studio: Studio) -> None:
    stream = await studio.make()
    await studio.put_on_air(stream)
    studio.watch(stream, 3)
    told = data(await studio.desk.http.get(path(stream)))
    assert told == {
        **stream,
        "state": "live",
        "is_live": True,
        "viewer_count": 3,
        "started_at": "2026-02-23T12:00:03Z",
        "playback": {"hls_url": f"https://hls.example/{stream['id']}/index.m3u8", "ready": True},
        "video": {
            "codec": "H264",
            "width": 1280,
            "height": 720,
            "frame_rate": 29.97,
            "profile": "High",
            "level": "3.1",
        },
        "audio": {"codec": "AAC", "profile": "LC", "channels": 2, "sample_rate": 48_000},
    }


@pytest.mark.parametrize(
    ("state", "is_live"),
    [
        (StreamState.STARTING, False),
        (StreamState.LIVE, True),
        (StreamState.STALLED, True),
        (StreamState.RECONNECTING, True),
    ],
)
async def test_it_is_live_from_its_first_picture_until_its_encoder_stays_away(
    studio: Studio, state: StreamState, is_live: bool
) -> None:
    stream = await studio.make()
    await studio.put_on_air(stream, state)
    told = data(await studio.desk.http.get(path(stream)))
    assert (told["state"], told["is_live"], told["playback"]["ready"]) == (state, is_live, is_live)
    assert (told["started_at"] is None) is (state is StreamState.STARTING)


async def test_a_session_that_is_just_over_tells_nothing_any_more(studio: Studio) -> None:
    stream = await studio.make()
    session = await studio.put_on_air(stream)
    assert session.snapshot is not None
    session.snapshot = replace(session.snapshot, state=StreamState.ENDED)
    assert data(await studio.desk.http.get(path(stream))) == {**stream, "state": "ended"}


async def test_what_is_on_air_is_listed_the_most_watched_first(studio: Studio) -> None:
    few, off, many, none = [await studio.make(title) for title in ("Few", "Off", "Many", "None")]
    for stream, viewers in ((few, 1), (many, 5), (none, 0)):
        await studio.put_on_air(stream)
        studio.watch(stream, viewers)

    async def listed(query: str) -> tuple[list[str], int]:
        told = data(await studio.desk.http.get(f"{STREAMS}?{query}"))
        return [each["title"] for each in told["streams"]], told["total"]

    assert await listed("is_live=true") == (["Many", "Few", "None"], 3)
    assert await listed("is_live=true&limit=1&offset=1") == (["Few"], 3)
    assert await listed("is_live=false") == (["Off"], 1)
    assert await listed("") == (["None", "Many", "Off", "Few"], 4)
    assert off["is_live"] is False


async def test_what_is_measured_of_an_encoder_is_its_owners_to_see(studio: Studio) -> None:
    stream = await studio.make()
    await studio.put_on_air(stream)
    watch = studio.watches[UUID(stream["id"])] = Watch()
    watch.see(Seen("7", 0), "boot", 0)
    watch.see(Seen("7", 1_000_000, 4), "boot", 10)
    [mine] = data(await studio.call("GET", MINE))["streams"]
    assert mine["ingest"] == {"bitrate_bps": 800_000, "bytes_in": 1_001_000, "dropped_frames": 4}
    assert (mine["is_live"], mine["rtmp_url"]) == (True, "rtmp://ingest.example/live")
    assert "ingest" not in data(await studio.call("GET", path(stream)))


async def test_regenerating_drops_who_is_on_air_once_the_old_key_holds_no_longer(studio: Studio) -> None:
    on, off = await studio.make(), await studio.make()
    session = await studio.put_on_air(on)
    told = data(await studio.call("POST", REGENERATE))
    assert (told["stream_id"], told["live_session_dropped"]) == (off["id"], True)
    assert session.ends == [SessionEnd.KEY_ROTATED]
    assert UUID(off["id"]) not in studio.sessions.on  # nothing is begun to be ended
    other = data(await studio.call("POST", REGENERATE, {"stream_id": off["id"]}))
    assert other["live_session_dropped"] is False
    assert session.ends == [SessionEnd.KEY_ROTATED]


@pytest.mark.parametrize("failure", [Unavailable("The ingest server does not answer."), Overloaded("/live")])
async def test_a_key_is_replaced_even_if_the_ingest_server_cannot_be_reached(
    studio: Studio, failure: Exception
) -> None:
    stream = await studio.make()
    await studio.put_on_air(stream, answer=failure)
    before = data(await studio.call("GET", KEY))
    told = data(await studio.call("POST", REGENERATE))
    assert told["live_session_dropped"] is False
    assert told["stream_key"] != before["stream_key"]
    assert data(await studio.call("GET", KEY))["stream_key"] == told["stream_key"]
    [line] = studio.desk.logged("session_not_dropped")
    assert (line["stream"], line["error"]) == (stream["id"], type(failure).__name__)
    assert "sk_" not in json.dumps(studio.desk.lines, default=str)


async def test_ending_ends_without_the_time_to_come_back(studio: Studio) -> None:
    stream = await studio.make()
    session = await studio.put_on_air(stream, StreamState.RECONNECTING, answer=False)  # there is nobody to drop
    key = data(await studio.call("GET", KEY))
    assert data(await studio.call("POST", path(stream, "/end")))["id"] == stream["id"]
    assert session.ends == [SessionEnd.FINISHED]
    assert data(await studio.call("GET", KEY)) == key


async def test_what_cannot_be_dropped_now_is_neither_ended_nor_deleted(studio: Studio) -> None:
    stream = await studio.make()
    session = await studio.put_on_air(stream, answer=Unavailable("The ingest server does not answer."))
    assert refusal(await studio.call("POST", path(stream, "/end"))) == (503, "unavailable")
    key = data(await studio.call("GET", KEY))["stream_key"]
    assert refusal(await studio.call("DELETE", path(stream))) == (503, "unavailable")
    assert data(await studio.call("GET", KEY))["stream_key"] != key  # it was to go first, so that nobody comes back
    assert (await studio.call("GET", path(stream))).status_code == 200
    session.answer = True
    assert data(await studio.call("DELETE", path(stream))) == {"deleted": True}
    assert session.ends == [SessionEnd.FINISHED, SessionEnd.DELETED, SessionEnd.DELETED]


async def test_past_sessions_are_told_with_how_long_they_were_live(studio: Studio) -> None:
    stream = await studio.make()
    session = await studio.put_on_air(stream)
    assert session.snapshot is not None
    ended = str(session.snapshot.id)
    async with studio.desk.db.transaction() as tx:
        await tx.execute(
            "UPDATE stream_sessions SET state = 'ended', ended_at = $1, end_reason = 'finished', peak_viewers = 9,"
            " bytes_in = 4096, reconnects = 2, started_at = started_at - interval '1 hour',"
            " live_at = live_at - interval '1 hour'",
            NOON,
        )
    present = await studio.put_on_air(stream)
    assert present.snapshot is not None
    told = data(await studio.call("GET", path(stream, "/sessions")))
    assert told["total"] == 2
    assert (told["sessions"][0]["id"], told["sessions"][0]["duration_seconds"]) == (str(present.snapshot.id), None)
    assert told["sessions"][1] == {
        "id": ended,
        "started_at": "2026-02-23T11:00:00Z",
        "live_at": "2026-02-23T11:00:03Z",
        "ended_at": "2026-02-23T12:00:00Z",
        "end_reason": "finished",
        "duration_seconds": 3597,
        "peak_viewers": 9,
        "bytes_in": 4096,
        "reconnects": 2,
    }
    assert len(data(await studio.call("GET", path(stream, "/sessions?limit=1&offset=1")))["sessions"]) == 1


async def test_where_live_streaming_is_not_set_up_no_key_is_shown(db: Database) -> None:
    nowhere = Broadcasting(StreamKeys(b"s" * 32), "", "", "", "")
    more = {
        "streams": Streams(db),
        "refs": SimpleNamespace(live=Live(NoSessions(), Audience(), {})),
        "broadcasting": nowhere,
    }
    with trio.fail_after(30):
        async with open_desk(db, more=more) as desk:
            user = await desk.sign_up()
            await desk.http.post(STREAMS, json={"title": "Sunday"}, headers=signed(user.access))
            assert refusal(await desk.get(KEY, user.access)) == (503, "live_not_configured")
            [mine] = data(await desk.get(MINE, user.access))["streams"]
            assert (mine["stream_key"], mine["rtmp_url"]) == (None, None)


async def test_where_the_server_renames_nothing_an_encoder_publishes_under_the_streams_id(db: Database) -> None:
    mediamtx = Broadcasting(StreamKeys(b"s" * 32), "rtmp://192.0.2.9", "http://192.0.2.9", "", "t" * 16, renames=False)
    more = {
        "streams": Streams(db),
        "refs": SimpleNamespace(live=Live(NoSessions(), Audience(), {})),
        "broadcasting": mediamtx,
    }
    with trio.fail_after(30):
        async with open_desk(db, more=more) as desk:
            user = await desk.sign_up()
            told = data(await desk.get(KEY, user.access))
            assert told["rtmp_url"] == f"rtmp://192.0.2.9/{told['stream_id']}"
            assert told["stream_key"].startswith("sk_")
