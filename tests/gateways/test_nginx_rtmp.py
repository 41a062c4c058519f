"""nginx-rtmp's stat page, drops and hooks. The pages and bodies were recorded from nginx 1.22 with the module 1.2.2."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from random import Random
from uuid import UUID

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from tests.gateways.scripted_server import HANG, ScriptedServer, answer, scripted_server
from veza.domain.ingest import Attempt, Audio, Seen, StatPage, Video
from veza.gateways.ingest import Ingest, IngestAway
from veza.gateways.ingest import nginx_rtmp as adapter
from veza.gateways.ingest.exchange import ANSWER_BYTES
from veza.gateways.ingest.nginx_rtmp import HOOK_BYTES, NginxRtmp, read_publish, read_publish_done
from veza.gateways.ingest.nginx_rtmp_stat import StatReader

RECORDED = Path(__file__).parent / "recorded"
PAGE = (RECORDED / "nginx_rtmp_stat.xml").read_bytes()
IDLE = (RECORDED / "nginx_rtmp_stat_idle.xml").read_bytes()
PLAYLIST = (RECORDED / "nginx_rtmp_playlist.m3u8").read_bytes()
SOUND_ID = UUID("00bcdf61-bca5-5074-bad0-a17fcc7c71fb")
PICTURES_ID = UUID("b533b97d-9151-5c45-8459-eddef2efad23")
NOW = 1795555069  # when the page was asked for, by the server's clock: eight seconds after it had started
SOUND = Audio("AAC", "LC", 1, 44100)

PUBLISH = (
    b"app=ingest&flashver=FMLE/3.0%20(compatible%3B%20Lavf59.27&swfurl=&tcurl=rtmp://127.0.0.1:9402/ingest&pageurl="
    b"&addr=127.0.0.1&clientid=1&call=publish&name=sk_aaaaabbbbb&type=live&call=publish_done&name=victim"
)
PUBLISH_DONE = (
    b"app=ingest&flashver=FMLE/3.0%20(compatible%3B%20Lavf59.27&swfurl=&tcurl=rtmp://127.0.0.1:9402/ingest&pageurl="
    b"&addr=127.0.0.1&clientid=11&call=publish_done&name=sk_ccccccccc&x=1"
)
# Published by an encoder told to call itself "x&name=victim&clientid=9", to have come from "rtmp://h/ingest?name=victim
# &name=v2#<b>&addr=1.2.3.4", and to be the player "http://s/&call=publish_done&name=victim&x=%26name=victim</client>...".
POISONED = (
    b"app=ingest&flashver=x%26name=victim%26clientid=9&swfurl=http://s/%26call=publish_done%26name=victim%26x=%2526name="
    b"victim%3C/client%3E%3Cpublishing/%3E%22&tcurl=rtmp://h/ingest%3Fname=victim%26name=v2%23%3Cb%3E%26addr=1.2.3.4"
    b"&pageurl=&addr=127.0.0.1&clientid=1&call=publish&name=sk_audioonly&type=live"
)
POISONED_DONE = (
    b"app=ingest&flashver=FMLE/3.0%20(compatible%3B%20Lavf59.27&swfurl="
    b"&tcurl=rtmp://127.0.0.1:9412/ingest%3Fname=victim%26clientid=9&pageurl=&addr=127.0.0.1&clientid=11"
    b"&call=publish_done&name=sk_apparg&call=publish_done&name=victim&clientid=9"
)
NAMELESS = (
    b"app=ingest&flashver=FMLE/3.0%20(compatible%3B%20Lavf59.27&swfurl=&tcurl=rtmp://127.0.0.1:9412/ingest&pageurl="
    b"&addr=127.0.0.1&clientid=2&call=publish&name=&type=live&name=victim&clientid=9"
)


@pytest.fixture
async def server() -> AsyncIterator[ScriptedServer]:
    with trio.fail_after(30):
        async with scripted_server() as server:
            yield server


@pytest.fixture
async def ingest(server: ScriptedServer) -> AsyncIterator[NginxRtmp]:
    async with NginxRtmp.open(
        stat_url=f"{server.url}/stat",
        control_url=f"{server.url}/control",
        hls_base_url=f"{server.url}/hls",
        application="ingest",
        timeout=5,
    ) as ingest:
        yield ingest


def read(page: bytes, *, piece: int = 65536, application: str = "ingest") -> StatPage:
    reader = StatReader(application)
    for start in range(0, len(page), piece):
        reader.feed(page[start : start + piece])
    return reader.close(NOW)


def with_meta(old: bytes, new: bytes) -> bytes:
    assert old in PAGE
    return PAGE.replace(old, new)


# --- the stat page ---------------------------------------------------------------------------------------------------


async def test_a_page_tells_who_publishes_what(server: ScriptedServer, ingest: Ingest) -> None:
    server.answers["GET /stat"] = answer(PAGE)
    page = await ingest.sample()
    assert page == StatPage(
        "18147-1795555061",
        {
            SOUND_ID: Seen("1", 51029, 0, None, SOUND),
            PICTURES_ID: Seen("3", 162542, 0, Video("H264", 320, 180, 15.0, "Baseline", "1.2"), SOUND),
        },
    )
    assert ingest.name == "nginx-rtmp"


async def test_a_server_nobody_publishes_to_has_a_page_without_streams(
    server: ScriptedServer, ingest: NginxRtmp
) -> None:
    server.answers["GET /stat"] = answer(IDLE)
    assert (await ingest.sample()).streams == {}


async def test_a_run_of_the_server_has_one_name_however_late_it_is_asked(
    server: ScriptedServer, ingest: NginxRtmp
) -> None:
    server.answers["GET /stat"] = answer(PAGE)
    early = await ingest.sample()
    aged = PAGE.replace(b"<uptime>8<", b"<uptime>86408<")
    server.answers["GET /stat"] = answer(aged, date="Wed, 25 Nov 2026 21:17:49 GMT")
    assert (await ingest.sample()).boot == early.boot


@pytest.mark.parametrize(
    ("old", "new"), [(b"<pid>18147<", b"<pid>18148<"), (b"<uptime>8<", b"<uptime>1<")], ids=["pid", "start"]
)
def test_another_run_of_the_server_has_another_name(old: bytes, new: bytes) -> None:
    assert read(PAGE.replace(old, new)).boot != read(PAGE).boot


def test_only_the_application_that_is_published_to_is_looked_at() -> None:
    assert {seen.client_id for seen in read(PAGE, application="play").streams.values()} == {"6", "10"}
    assert {seen.client_id for seen in read(PAGE).streams.values()} == {"1", "3"}


def test_a_page_without_our_application_is_none() -> None:
    with pytest.raises(IngestAway, match="without the application"):
        read(PAGE, application="elsewhere")


def test_a_stream_whose_publisher_is_gone_is_not_there_though_relays_linger() -> None:
    client = b"<timestamp>6246</timestamp><publishing/><active/></client>\r\n<meta><video><width>320"
    gone = PAGE.replace(client, client.replace(b"<publishing/>", b""), 1)
    assert set(read(gone).streams) == {SOUND_ID}


def test_a_publisher_that_has_sent_nothing_yet_is_there() -> None:
    assert set(read(PAGE.replace(b"<active/>", b"")).streams) == {SOUND_ID, PICTURES_ID}


@pytest.mark.parametrize("name", [b"rehearsal", b"", b"00BCDF61-BCA5-5074-BAD0-A17FCC7C71FB", b"a&amp;b"])
def test_a_name_that_is_no_public_id_is_passed_over(name: bytes) -> None:
    page = PAGE.replace(str(SOUND_ID).encode(), name)
    assert set(read(page).streams) == {PICTURES_ID}


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"<bytes_in>51029<", b"<bytes_in>many<"),
        (b"<bytes_in>51029<", b"<bytes_in>-1<"),
        (b"<bytes_in>51029</bytes_in>", b""),
        (b"<id>1</id>", b"<id></id>"),
        (b"<id>1</id>", b""),
        (b"<dropped>0</dropped>", b"<dropped>0x</dropped>"),
        (b"</meta>", b""),
        (b"<name>00bcdf61", b"<nom>00bcdf61"),
        (b"</stream>", b""),
        (b"<stream>", b""),
        (b"<pid>18147<", b"<pid><"),
        (b"<uptime>8<", b"<uptime>soon<"),
        (b"b533b97d-9151-5c45-8459-eddef2efad23", b"00bcdf61-bca5-5074-bad0-a17fcc7c71fb"),
    ],
)
def test_a_page_that_is_wrong_in_one_place_is_none(old: bytes, new: bytes) -> None:
    assert old in PAGE
    with pytest.raises(IngestAway):
        read(PAGE.replace(old, new))


@pytest.mark.parametrize("number", [b"18446744073709551615", b"99999999999999999999999", b"-1", b"0", b"", b"wide"])
def test_senseless_figures_of_an_encoder_are_null_and_spare_the_others(number: bytes) -> None:
    page = with_meta(b"<width>320<", b"<width>%b<" % number)
    assert read(page).streams[PICTURES_ID].video == Video("H264", None, 180, 15.0, "Baseline", "1.2")
    assert read(page).streams[SOUND_ID] == read(PAGE).streams[SOUND_ID]


def test_a_profile_without_a_name_is_null() -> None:
    video = read(with_meta(b"<profile>Baseline<", b"<profile><")).streams[PICTURES_ID].video
    assert video == Video("H264", 320, 180, 15.0, None, "1.2")


def test_streams_that_are_sent_alike_share_what_says_how() -> None:
    streams = read(PAGE).streams
    again = read(PAGE).streams
    assert streams[PICTURES_ID].video is again[PICTURES_ID].video


def test_a_page_cut_off_anywhere_is_none() -> None:
    for cut in range(PAGE.rindex(b">") + 1):
        with pytest.raises(IngestAway):
            read(PAGE[:cut])


@given(piece=st.integers(1, 5000))
def test_it_does_not_matter_in_which_pieces_a_page_comes(piece: int) -> None:
    assert read(PAGE, piece=piece) == read(PAGE)


@given(at=st.integers(0, len(PAGE)), removed=st.integers(0, 40), put=st.binary(max_size=40), piece=st.integers(1, 5000))
def test_a_damaged_page_is_read_or_is_none(at: int, removed: int, put: bytes, piece: int) -> None:
    try:
        page = read(PAGE[:at] + put + PAGE[at + removed :], piece=piece)
    except IngestAway:
        return
    assert all(isinstance(stream_id, UUID) and seen.client_id.isdigit() for stream_id, seen in page.streams.items())


@pytest.mark.parametrize(
    "page",
    [
        b"",
        b"<html><body>It works!</body></html>",
        b"<rtmp/>",
        b'<!DOCTYPE rtmp [<!ENTITY pid "1">]>' + PAGE.replace(b"<pid>18147<", b"<pid>&pid;<").partition(b"?>")[2],
        b'<!DOCTYPE rtmp [<!ENTITY pid SYSTEM "file:///proc/self/stat">]>'
        + PAGE.replace(b"<pid>18147<", b"<pid>&pid;<").partition(b"?>")[2],
        b"<a>" * 100_000,
        b"\0" * 1000,
    ],
    ids=["empty", "HTML", "bare", "entity", "file", "deep", "zeros"],
)
async def test_what_is_no_stat_page_is_none(server: ScriptedServer, ingest: NginxRtmp, page: bytes) -> None:
    server.answers["GET /stat"] = answer(page)
    with pytest.raises(IngestAway):
        await ingest.sample()


@pytest.mark.parametrize(
    "sent",
    [
        answer(PAGE, "500 Internal Server Error"),
        answer(PAGE, "302 Found\r\nLocation: /elsewhere"),
        answer(PAGE, "302 Found\r\nLocation: http://[/"),
        answer(PAGE, date=None),
        answer(PAGE, date="yesterday"),
        answer(PAGE)[:-10],
        answer(PAGE, length=False)[:-10],
        answer(PAGE, "200 OK\r\nContent-Encoding: gzip\r\nTransfer-Encoding: chunked", length=False),
        b"220 mail.example ESMTP\r\n",
        b"HTTP/1.1 200",
    ],
    ids=["500", "302", "302 nowhere", "undated", "misdated", "cut", "cut, no length", "chunked", "SMTP", "half a head"],
)
async def test_an_answer_that_is_none_says_so_without_an_address(
    server: ScriptedServer, ingest: NginxRtmp, sent: bytes
) -> None:
    server.answers["GET /stat"] = sent
    with pytest.raises(IngestAway) as away:
        await ingest.sample()
    assert "127.0.0.1" not in str(away.value)
    assert "/" not in str(away.value)


async def test_a_server_that_says_nothing_is_away_when_the_time_is_over(server: ScriptedServer) -> None:
    server.answers = dict.fromkeys(["GET /stat", "GET /control/drop/publisher?app=ingest&name=" + str(SOUND_ID)], HANG)
    server.answers[f"GET /hls/{SOUND_ID}/index.m3u8"] = HANG
    async with NginxRtmp.open(
        stat_url=f"{server.url}/stat",
        control_url=f"{server.url}/control/",
        hls_base_url=f"{server.url}/hls/",
        application="ingest",
        timeout=0.05,
    ) as ingest:
        with pytest.raises(IngestAway, match=r"within 0\.05 s"):
            await ingest.sample()
        with pytest.raises(IngestAway, match=r"within 0\.05 s"):
            await ingest.kick(SOUND_ID)
        assert not await ingest.has_playlist(SOUND_ID)
    assert len(server.asked) == 3


async def test_a_server_that_is_not_there_is_away() -> None:
    async with NginxRtmp.open(
        stat_url="http://127.0.0.1:1/stat",
        control_url="http://127.0.0.1:1/control",
        hls_base_url="http://127.0.0.1:1/hls",
        application="ingest",
        timeout=5,
    ) as ingest:
        with pytest.raises(IngestAway, match="ConnectError"):
            await ingest.sample()
        with pytest.raises(IngestAway, match="ConnectError"):
            await ingest.kick(SOUND_ID)
        assert not await ingest.has_playlist(SOUND_ID)


async def test_a_page_beyond_all_measure_is_not_read_to_its_end(
    server: ScriptedServer, ingest: NginxRtmp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adapter, "STAT_BYTES", 2 * len(PAGE))
    server.answers["GET /stat"] = answer(PAGE + b" " * len(PAGE))
    assert len((await ingest.sample()).streams) == 2
    server.answers["GET /stat"] = answer(PAGE + b" " * 1_000_000)
    with pytest.raises(IngestAway, match="more than"):
        await ingest.sample()


async def test_a_page_of_many_streams_is_read_while_others_run(server: ScriptedServer, ingest: NginxRtmp) -> None:
    """3,000 streams in one run to the end would be some 40 ms during which nobody else runs."""
    head, _, rest = PAGE.partition(b"<stream>")
    stream = rest.partition(b"</stream>")[0]
    random = Random(4)
    ids = [UUID(int=random.getrandbits(128)) for _ in range(3000)]
    many = [b"<stream>" + stream.replace(str(SOUND_ID).encode(), str(each).encode()) + b"</stream>" for each in ids]
    server.answers["GET /stat"] = answer(head + b"".join(many) + b"</live></application></server></rtmp>")
    turns = 0

    async def count_turns() -> None:
        nonlocal turns
        while True:
            await trio.lowlevel.checkpoint()
            turns += 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(count_turns)
        page = await ingest.sample()
        nursery.cancel_scope.cancel()
    assert set(page.streams) == set(ids)
    assert turns >= 20


# --- drops and playlists ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [0, 1])
async def test_a_drop_tells_how_many_it_dropped(server: ScriptedServer, ingest: NginxRtmp, count: int) -> None:
    server.answers[f"GET /control/drop/publisher?app=ingest&name={SOUND_ID}"] = answer(b"%d" % count)
    assert await ingest.kick(SOUND_ID) == count


@pytest.mark.parametrize(
    "sent", [answer(b""), answer(b"one"), answer(b"1", "404 Not Found"), answer(b"1" * (ANSWER_BYTES + 1)), b""]
)
async def test_a_drop_that_is_answered_otherwise_may_not_have_happened(
    server: ScriptedServer, ingest: NginxRtmp, sent: bytes
) -> None:
    server.answers[f"GET /control/drop/publisher?app=ingest&name={SOUND_ID}"] = sent or b"\r\n"
    with pytest.raises(IngestAway):
        await ingest.kick(SOUND_ID)


async def test_a_playlist_with_a_segment_can_be_played(server: ScriptedServer, ingest: NginxRtmp) -> None:
    assert not await ingest.has_playlist(SOUND_ID)
    server.answers[f"GET /hls/{SOUND_ID}/index.m3u8"] = answer(PLAYLIST)
    assert await ingest.has_playlist(SOUND_ID)
    assert not await ingest.has_playlist(PICTURES_ID)


@pytest.mark.parametrize(
    "sent",
    [
        answer(PLAYLIST[: PLAYLIST.index(b"#EXTINF")]),
        answer(b""),
        answer(b"<html>\n</html>"),
        answer(PLAYLIST, "403 Forbidden"),
        answer(PLAYLIST + b"#\n" * ANSWER_BYTES),
    ],
    ids=["no segment", "empty", "HTML", "403", "too long"],
)
async def test_what_is_no_playlist_with_a_segment_can_not(
    server: ScriptedServer, ingest: NginxRtmp, sent: bytes
) -> None:
    server.answers[f"GET /hls/{SOUND_ID}/index.m3u8"] = sent
    assert not await ingest.has_playlist(SOUND_ID)


# --- hooks -----------------------------------------------------------------------------------------------------------


def test_a_publish_tells_key_connection_and_address_and_what_follows_is_not_believed() -> None:
    assert read_publish(PUBLISH, "ingest") == Attempt("sk_aaaaabbbbb", "1", "127.0.0.1")


def test_a_publish_done_tells_the_same() -> None:
    assert read_publish_done(PUBLISH_DONE, "ingest") == Attempt("sk_ccccccccc", "11", "127.0.0.1")


def test_what_an_encoder_calls_itself_does_not_become_a_field() -> None:
    assert read_publish(POISONED, "ingest") == Attempt("sk_audioonly", "1", "127.0.0.1")
    assert read_publish_done(POISONED_DONE, "ingest") == Attempt("sk_apparg", "11", "127.0.0.1")


def test_a_publish_without_a_name_does_not_take_the_one_in_its_arguments() -> None:
    with pytest.raises(ValueError, match="name is missing"):
        read_publish(NAMELESS, "ingest")


@pytest.mark.parametrize("reader", [read_publish, read_publish_done])
@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        (b"call=publish", b"call=play", "another call"),
        (b"&call=publish", b"", "another call"),
        (b"app=ingest", b"app=play", "another application"),
        (b"app=ingest&", b"", "app is missing"),
        (b"clientid=1", b"id=1", "clientid is missing"),
        (b"clientid=1", b"clientid=%D9%A1", "clientid is no number"),  # an Arabic one
        (b"clientid=1", b"clientid=-1", "clientid is no number"),
        (b"addr=127.0.0.1", b"addr=", "addr is missing"),
        (b"name=sk_", b"name=%zz", "name is escaped wrongly"),
        (b"name=sk_", b"name=%ff", "name is no text"),
        (b"name=sk_", b"name=%00", "name is missing or not printable"),
        (b"name=sk_", b"nom=sk_", "name is missing"),
    ],
)
def test_a_hook_that_is_wrong_is_refused_without_its_key(
    reader: Callable[[bytes, str], Attempt], old: bytes, new: bytes, says: str
) -> None:
    body = (PUBLISH if reader is read_publish else PUBLISH_DONE).partition(b"&x=1")[0].partition(b"&type=")[0]
    assert old in body
    with pytest.raises(ValueError, match=says) as refused:
        reader(body.replace(old, new), "ingest")
    assert "aaaaabbbbb" not in str(refused.value)
    assert "ccccccccc" not in str(refused.value)


def test_a_publish_is_no_publish_done() -> None:
    with pytest.raises(ValueError, match="another call"):
        read_publish_done(PUBLISH, "ingest")
    with pytest.raises(ValueError, match="another call"):
        read_publish(PUBLISH_DONE, "ingest")


def test_a_hook_longer_than_the_server_writes_is_refused() -> None:
    with pytest.raises(ValueError, match="too long"):
        read_publish(PUBLISH + b"&" * HOOK_BYTES, "ingest")


def test_a_hook_of_more_fields_than_the_server_writes_is_not_searched_for_its_name() -> None:
    with pytest.raises(ValueError, match="name is missing"):
        read_publish(PUBLISH.replace(b"&name=", b"&" * 20 + b"name=", 1), "ingest")


@given(arguments=st.binary(max_size=256))
def test_no_arguments_of_a_publisher_change_who_it_is(arguments: bytes) -> None:
    assert read_publish(POISONED + b"&" + arguments, "ingest") == read_publish(POISONED, "ingest")
    assert read_publish_done(PUBLISH_DONE + arguments, "ingest") == read_publish_done(PUBLISH_DONE, "ingest")


field_names = st.sampled_from([b"app", b"addr", b"clientid", b"call", b"name", b"x"])
field_values = st.sampled_from([b"ingest", b"127.0.0.1", b"7", b"publish", b"publish_done", b"sk_x", b"%", b"%ff", b""])
fields = st.lists(st.tuples(field_names, field_values), max_size=20)


@given(body=st.binary(max_size=400) | fields.map(lambda pairs: b"&".join(b"=".join(pair) for pair in pairs)))
def test_any_body_is_an_attempt_or_a_value_error(body: bytes) -> None:
    for reader in (read_publish, read_publish_done):
        try:
            attempt = reader(body, "ingest")
        except ValueError:
            continue
        first = dict(reversed([pair.partition(b"=")[::2] for pair in body.split(b"&")]))
        assert first[b"clientid"].decode() == attempt.client_id
        assert first[b"app"] == b"ingest"
        assert first[b"name"].decode() == attempt.key
