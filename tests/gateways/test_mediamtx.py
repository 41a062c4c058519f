"""MediaMTX's API and its authentication requests.

The server itself is not run here: a real HTTP server on loopback answers with bodies in the shape that it documents
(api/openapi.yaml and docs/2-features/06-authentication.md of bluenviron/mediamtx).
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import UUID

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from tests.gateways.scripted_server import HANG, ScriptedServer, answer, scripted_server
from veza.domain.ingest import Attempt, Audio, Seen, Video
from veza.gateways.ingest import Ingest, IngestAway
from veza.gateways.ingest.mediamtx import HOOK_BYTES, MOST_PAGES, PAGE_ITEMS, MediaMtx, MediaMtxRequest, read_auth

PATHS = (Path(__file__).parent / "recorded" / "mediamtx_paths.json").read_bytes()
SHOW_ID = UUID("00bcdf61-bca5-5074-bad0-a17fcc7c71fb")
TALK_ID = UUID("b533b97d-9151-5c45-8459-eddef2efad23")
SHOW_CONNECTION = "8a1ff1c4-4c2f-4a4e-9b60-1f3a5c0d7e11"
TALK_CONNECTION = "0f7b6a1e-95a8-4f3e-8f0c-2d9f3b7a6c55"
ENDED = answer(b'{"status":"error","error":"connection not found"}', "404 Not Found")
OK = answer(b'{"status":"ok"}')

AUTH = {
    "user": "",
    "password": "sk_aaaaa",
    "token": "sk_aaaaa",
    "ip": "203.0.113.77",
    "action": "publish",
    "path": str(SHOW_ID),
    "protocol": "rtmp",
    "id": SHOW_CONNECTION,
    "query": "user=&pass=sk_aaaaa",
    "userAgent": "FMLE/3.0 (compatible; Lavf59.27",
}
ATTEMPT = Attempt("sk_aaaaa", SHOW_CONNECTION, "203.0.113.77")


def listing(page: int) -> str:
    return f"GET /v3/paths/list?itemsPerPage={PAGE_ITEMS}&page={page}"


def getting(stream_id: UUID) -> str:
    return f"GET /v3/paths/get/{stream_id}"


def path_of(at: int, **changes: object) -> bytes:
    return json.dumps(json.loads(PATHS)["items"][at] | changes).encode()


def a_page(*items: bytes, pages: int = 1) -> bytes:
    return answer(b'{"itemCount":1,"pageCount":%d,"items":[%b]}' % (pages, b",".join(items)))


@pytest.fixture
async def server() -> AsyncIterator[ScriptedServer]:
    with trio.fail_after(30):
        async with scripted_server() as server:
            yield server


@pytest.fixture
async def ingest(server: ScriptedServer) -> AsyncIterator[MediaMtx]:
    async with MediaMtx.open(api_url=server.url, hls_base_url=f"{server.url}/hls", timeout=5) as ingest:
        yield ingest


# --- the paths -------------------------------------------------------------------------------------------------------


async def test_paths_that_are_published_to_over_rtmp_are_streams(server: ScriptedServer, ingest: Ingest) -> None:
    server.answers[listing(0)] = answer(PATHS)
    page = await ingest.sample()
    assert page.streams == {
        SHOW_ID: Seen(SHOW_CONNECTION, 18446744, 0, Video("H264"), Audio("AAC")),
        TALK_ID: Seen(TALK_CONNECTION, 51029, 0, None, Audio("Opus")),
    }
    assert (await ingest.sample()).boot == page.boot
    assert ingest.name == "mediamtx"


async def test_a_server_without_paths_has_no_streams(server: ScriptedServer, ingest: MediaMtx) -> None:
    server.answers[listing(0)] = answer(b'{"itemCount":0,"pageCount":0,"items":[]}')
    assert (await ingest.sample()).streams == {}


async def test_all_pages_are_read(server: ScriptedServer, ingest: MediaMtx) -> None:
    server.answers = {listing(0): a_page(path_of(0), pages=2), listing(1): a_page(path_of(1), pages=2)}
    assert set((await ingest.sample()).streams) == {SHOW_ID, TALK_ID}


async def test_pages_without_end_are_not_read_to_the_end(server: ScriptedServer, ingest: MediaMtx) -> None:
    server.answers = {listing(page): a_page(pages=page + 2) for page in range(2 * MOST_PAGES)}
    with pytest.raises(IngestAway, match="more than"):
        await ingest.sample()
    assert len(server.asked) == MOST_PAGES


async def test_a_sample_with_a_page_missing_is_none(server: ScriptedServer, ingest: MediaMtx) -> None:
    server.answers = {listing(0): a_page(path_of(0), pages=2)}
    with pytest.raises(IngestAway, match="404"):
        await ingest.sample()


@pytest.mark.parametrize("name", ["rehearsal", str(SHOW_ID).upper(), SHOW_ID.hex, f"live/{SHOW_ID}", ""])
async def test_a_path_that_is_no_public_id_is_passed_over(server: ScriptedServer, ingest: MediaMtx, name: str) -> None:
    server.answers[listing(0)] = a_page(path_of(0, name=name))
    assert (await ingest.sample()).streams == {}


@pytest.mark.parametrize(
    "changes",
    [
        {"inboundBytes": "many"},
        {"inboundBytes": -1},
        {"inboundBytes": None, "bytesReceived": None},
        {"source": {"type": "rtmpConn"}},
        {"source": {"type": "rtmpConn", "id": ""}},
        {"source": "rtmpConn"},
        {"name": None},
        {"tracks": "H264"},
    ],
)
async def test_a_list_that_is_wrong_in_one_place_is_none(
    server: ScriptedServer, ingest: MediaMtx, changes: dict[str, object]
) -> None:
    server.answers[listing(0)] = a_page(path_of(1), path_of(0, **changes))
    with pytest.raises(IngestAway):
        await ingest.sample()


@pytest.mark.parametrize(
    "sent",
    [
        answer(PATHS[:-10]),
        answer(PATHS)[:-10],
        answer(PATHS, length=False)[:-10],
        answer(b""),
        answer(b"[]"),
        answer(b"\xff"),
        answer(b"<html></html>"),
        answer(PATHS, "401 Unauthorized"),
        b"220 mail.example ESMTP\r\n",
    ],
    ids=["cut text", "cut", "cut, no length", "empty", "list", "no text", "HTML", "401", "SMTP"],
)
async def test_an_answer_that_is_none_says_so_without_an_address(
    server: ScriptedServer, ingest: MediaMtx, sent: bytes
) -> None:
    server.answers[listing(0)] = sent
    with pytest.raises(IngestAway) as away:
        await ingest.sample()
    assert "127.0.0.1" not in str(away.value)
    assert "/" not in str(away.value)


async def test_a_server_that_says_nothing_is_away_when_the_time_is_over(server: ScriptedServer) -> None:
    server.answers = dict.fromkeys([listing(0), getting(SHOW_ID)], HANG)
    server.answers[f"GET /hls/{SHOW_ID}/index.m3u8?cookieCheck=1"] = HANG
    async with MediaMtx.open(api_url=server.url + "/", hls_base_url=f"{server.url}/hls/", timeout=0.05) as ingest:
        with pytest.raises(IngestAway, match=r"within 0\.05 s"):
            await ingest.sample()
        with pytest.raises(IngestAway, match=r"within 0\.05 s"):
            await ingest.kick(SHOW_ID)
        assert not await ingest.has_playlist(SHOW_ID)
    assert len(server.asked) == 3


async def test_a_server_that_is_not_there_is_away() -> None:
    nowhere = "http://127.0.0.1:1"
    async with MediaMtx.open(api_url=nowhere, hls_base_url=nowhere, timeout=5) as ingest:
        with pytest.raises(IngestAway, match="ConnectError"):
            await ingest.sample()
        with pytest.raises(IngestAway, match="ConnectError"):
            await ingest.kick(SHOW_ID)
        assert not await ingest.has_playlist(SHOW_ID)


# --- drops and playlists ---------------------------------------------------------------------------------------------


async def test_a_drop_reaches_the_connection_by_the_way_it_came(server: ScriptedServer, ingest: MediaMtx) -> None:
    server.answers = {
        getting(SHOW_ID): answer(path_of(0)),
        getting(TALK_ID): answer(path_of(1)),
        f"POST /v3/rtmpconns/kick/{SHOW_CONNECTION}": OK,
        f"POST /v3/rtmpsconns/kick/{TALK_CONNECTION}": OK,
    }
    assert await ingest.kick(SHOW_ID) == 1
    assert await ingest.kick(TALK_ID) == 1


async def test_who_does_not_publish_is_not_dropped(server: ScriptedServer, ingest: MediaMtx) -> None:
    assert await ingest.kick(SHOW_ID) == 0
    server.answers[getting(SHOW_ID)] = answer(path_of(0, source=None))
    assert await ingest.kick(SHOW_ID) == 0
    server.answers[getting(SHOW_ID)] = answer(path_of(2))
    assert await ingest.kick(SHOW_ID) == 0
    assert not any(asked.startswith("POST") for asked in server.asked)


async def test_who_is_gone_before_the_drop_was_not_dropped(server: ScriptedServer, ingest: MediaMtx) -> None:
    server.answers = {
        getting(SHOW_ID): answer(path_of(0)),
        f"POST /v3/rtmpconns/kick/{SHOW_CONNECTION}": ENDED,
    }
    assert await ingest.kick(SHOW_ID) == 0


@pytest.mark.parametrize(
    ("path", "dropped"),
    [
        (answer(path_of(0)), answer(b"", "500 Internal Server Error")),
        (answer(path_of(0)), b"\r\n"),
        (answer(b"", "500 Internal Server Error"), OK),
        (answer(b"{}"), OK),
        (answer(path_of(0, source={"type": "rtmpConn", "id": "../paths"})), OK),
    ],
)
async def test_a_drop_that_is_answered_otherwise_may_not_have_happened(
    server: ScriptedServer, ingest: MediaMtx, path: bytes, dropped: bytes
) -> None:
    server.answers = {getting(SHOW_ID): path, f"POST /v3/rtmpconns/kick/{SHOW_CONNECTION}": dropped}
    with pytest.raises(IngestAway):
        await ingest.kick(SHOW_ID)


async def test_a_playlist_that_names_something_can_be_played(server: ScriptedServer, ingest: MediaMtx) -> None:
    assert not await ingest.has_playlist(SHOW_ID)
    playlist = b'#EXTM3U\n#EXT-X-VERSION:9\n\n#EXT-X-STREAM-INF:BANDWIDTH=1256182,CODECS="avc1.640028"\nvideo1.m3u8\n'
    server.answers[f"GET /hls/{SHOW_ID}/index.m3u8?cookieCheck=1"] = answer(playlist)
    assert await ingest.has_playlist(SHOW_ID)
    server.answers[f"GET /hls/{SHOW_ID}/index.m3u8?cookieCheck=1"] = answer(playlist.partition(b"video1")[0])
    assert not await ingest.has_playlist(SHOW_ID)


# --- authentication --------------------------------------------------------------------------------------------------


def asked(**changes: object) -> MediaMtxRequest:
    return read_auth(json.dumps(AUTH | changes).encode())


def test_a_publisher_shows_its_key_beside_the_path() -> None:
    assert asked() == MediaMtxRequest("publish", SHOW_ID, ATTEMPT)


@pytest.mark.parametrize(
    "where",
    [
        {"password": "sk_aaaaa", "token": ""},
        {"password": "", "token": "sk_aaaaa"},
        {"query": "key=sk_aaaaa&key=sk_bbbbb"},
        {"query": "x=1&pass=sk_aaaaa"},
        {"query": "token=sk_aaaaa"},
        {"password": None, "token": None, "query": "key=sk%5faaaaa"},
    ],
)
def test_the_key_is_found_wherever_an_encoder_can_put_it(where: dict[str, object]) -> None:
    assert asked(**({"password": "", "token": "", "query": ""} | where)).attempt == ATTEMPT


@pytest.mark.parametrize(
    "changes",
    [
        {"password": "", "token": "", "query": ""},
        {"password": "", "token": "", "query": None},
        {"protocol": "srt"},
        {"action": "read"},
        {"id": None},
        {"ip": ""},
    ],
    ids=["no key", "no query", "SRT", "reader", "no connection", "no address"],
)
def test_who_cannot_be_a_publisher_makes_no_attempt(changes: dict[str, object]) -> None:
    request = asked(**changes)
    assert request.attempt is None
    assert request.stream_id == SHOW_ID


@pytest.mark.parametrize("path", ["", "rehearsal", str(SHOW_ID).upper(), f"live/{SHOW_ID}", SHOW_ID.hex])
def test_a_path_that_is_no_public_id_is_no_stream(path: str) -> None:
    assert asked(path=path) == MediaMtxRequest("publish", None, ATTEMPT)


def test_a_request_for_the_api_is_told_from_a_publisher() -> None:
    assert asked(action="api", path="", protocol="", id=None) == MediaMtxRequest("api", None, None)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b'{"path":"x"}',
        b'{"action":""}',
        b'{"action":"publish","password":["sk_aaaaa"]}',
        json.dumps(AUTH | {"ip": 7}).encode(),
        json.dumps(AUTH | {"password": "", "token": "", "query": "key=sk_aaaaa" + "&x=1" * 100}).encode(),
        json.dumps(AUTH | {"password": "", "token": "", "query": "a=sk_aaaaa&key=%ff"}).encode(),
        json.dumps(AUTH | {"userAgent": "x" * HOOK_BYTES}).encode(),
    ],
    ids=["empty", "list", "no action", "empty action", "password", "ip", "fields", "no text", "long"],
)
def test_a_request_that_is_wrong_is_refused_without_its_key(body: bytes) -> None:
    with pytest.raises(ValueError, match=r"the (request|query) is") as refused:
        read_auth(body)
    assert "sk_aaaaa" not in str(refused.value)


texts = st.text(max_size=30)


@given(
    body=st.binary(max_size=200)
    | st.fixed_dictionaries({}, optional={name: texts | st.none() | st.integers() for name in AUTH}).map(
        lambda fields: json.dumps({"action": "publish", "protocol": "rtmp"} | fields).encode()
    )
)
def test_any_body_is_a_request_or_a_value_error(body: bytes) -> None:
    try:
        request = read_auth(body)
    except ValueError:
        return
    assert request.attempt is None or (request.action == "publish" and request.attempt.key)
