"""Live streaming with everything real: nginx-rtmp, ffmpeg, PostgreSQL and a whole Veza, seen through the public API."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import httpx
import psutil
import psycopg
import pytest
import trio

from tests.conftest import Server, server_directory
from tests.e2e.live_station import CHANGE_SECONDS, HOOK_TOKEN, Station, open_station

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def station(postgres: Server) -> Iterator[Station]:
    """One platform for all: starting it takes as long as most of these tests."""
    name = postgres.create()
    with server_directory() as directory, open_station(postgres.named(name), directory) as opened:
        yield opened
    postgres.drop(name)


async def test_an_encoder_with_its_key_is_live_and_can_be_watched(station: Station) -> None:
    async with station.creator() as creator:
        assert (await creator.status())["state"] == "offline"
        creator.publish()
        status = await creator.until("live")
        assert (status["is_live"], status["health"]) == (True, "good")
        path = f"/live/streams/{creator.stream_id}"
        listed = (await creator.http.get("/live/streams", params={"is_live": "true"})).json()["data"]
        assert creator.stream_id in [stream["id"] for stream in listed["streams"]]
        with trio.fail_after(CHANGE_SECONDS):
            while not (stream := (await creator.http.get(path)).json()["data"])["playback"]["ready"]:  # noqa: ASYNC110
                await trio.sleep(0.1)
        assert stream["video"]["codec"] == "H264"
        assert (stream["video"]["width"], stream["video"]["height"]) == (160, 90)
        assert stream["audio"]["codec"] == "AAC"
        playlist = (await creator.http.get(stream["playback"]["hls_url"])).raise_for_status()
        assert "#EXTINF" in playlist.text
        [mine] = (await creator.call("GET", "/live/streams/me"))["streams"]
        assert mine["ingest"]["bytes_in"] > 0


async def test_a_poller_gets_the_status_once_and_304_until_it_changes(station: Station) -> None:
    async with station.creator() as creator:
        encoder = creator.publish()
        await creator.until("live")
        path = f"/live/streams/{creator.stream_id}/status"
        first = await creator.http.get(path)
        assert first.headers["Cache-Control"] == "public, max-age=2"
        again = await creator.http.get(path, headers={"If-None-Match": first.headers["ETag"]})
        assert (again.status_code, again.content, again.headers["ETag"]) == (304, b"", first.headers["ETag"])
        encoder.kill()
        await creator.until("reconnecting")
        changed = await creator.http.get(path, headers={"If-None-Match": first.headers["ETag"]})
        assert changed.status_code == 200


async def test_a_second_encoder_is_refused_and_does_not_hurt_the_first(station: Station) -> None:
    async with station.creator() as creator:
        creator.publish()
        await creator.until("live")
        assert await creator.publish().ended() != 0
        assert (await creator.status())["state"] == "live"
        assert creator.encoders[0].running


async def test_an_encoder_that_stops_is_stalled_and_live_when_it_goes_on(station: Station) -> None:
    async with station.creator() as creator:
        encoder = creator.publish()
        await creator.until("live")
        encoder.freeze()
        assert (await creator.until("stalled"))["is_live"]
        encoder.thaw()
        await creator.until("live")


async def test_a_killed_encoder_comes_back_into_the_same_session(station: Station) -> None:
    async with station.creator() as creator:
        encoder = creator.publish()
        await creator.until("live")
        encoder.kill()
        assert (await creator.until("reconnecting"))["is_live"]
        creator.publish()
        await creator.until("live")
        [session] = await creator.sessions()
        assert (session["reconnects"], session["ended_at"]) == (1, None)


async def test_an_encoder_that_comes_back_beside_its_ghost_replaces_it(station: Station) -> None:
    async with station.creator() as creator:
        ghost = creator.publish()
        await creator.until("live")
        ghost.freeze()
        await creator.until("stalled")
        creator.publish()
        await creator.until("live")
        ghost.thaw()
        assert await ghost.ended() != 0
        assert (await creator.status())["state"] == "live"
        [session] = await creator.sessions()
        assert session["reconnects"] == 1


async def test_sound_alone_is_live_without_a_picture(station: Station) -> None:
    async with station.creator() as creator:
        creator.publish(sound_only=True)
        await creator.until("live")
        stream = (await creator.http.get(f"/live/streams/{creator.stream_id}")).json()["data"]
        assert (stream["video"], stream["audio"]["codec"]) == (None, "AAC")


async def test_a_replaced_key_drops_who_is_on_air_and_no_longer_lets_in(station: Station) -> None:
    async with station.creator() as creator:
        encoder = creator.publish()
        await creator.until("live")
        old = creator.key
        replaced = await creator.call("POST", "/live/streams/me/key/regenerate")
        assert replaced["live_session_dropped"] is True
        assert await encoder.ended() != 0
        assert (await creator.status())["state"] == "ended"
        assert await creator.publish(old).ended() != 0
        station.keys.append(replaced["stream_key"])
        creator.publish(replaced["stream_key"])
        await creator.until("live")
        assert [session["end_reason"] for session in await creator.sessions()] == [None, "key_rotated"]


async def test_a_deleted_stream_drops_its_publisher(station: Station) -> None:
    async with station.creator() as creator:
        encoder = creator.publish()
        await creator.until("live")
        await creator.call("DELETE", f"/live/streams/{creator.stream_id}")
        assert await encoder.ended() != 0
        assert (await creator.http.get(f"/live/streams/{creator.stream_id}/status")).status_code == 404
        assert await creator.publish().ended() != 0


async def test_an_owner_ends_their_stream_without_the_grace(station: Station) -> None:
    async with station.creator() as creator:
        encoder = creator.publish()
        await creator.until("live")
        await creator.call("POST", f"/live/streams/{creator.stream_id}/end")
        assert (await creator.status())["state"] == "ended"
        assert await encoder.ended() != 0


async def test_switched_off_nobody_new_is_let_in_and_who_is_on_air_stays(station: Station) -> None:
    async with station.creator() as one, station.creator() as two:
        one.publish()
        await one.until("live")
        with psycopg.connect(station.environment["DATABASE_URL"], autocommit=True) as database:
            database.execute("INSERT INTO feature_flags (name, enabled) VALUES ('live.ingest', false)")
            assert await two.publish().ended() != 0
            database.execute("DELETE FROM feature_flags")
        assert (await one.status())["state"] == "live"
        two.publish()
        await two.until("live")


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("live", "sk_forged"),
        ("live", ""),
        ("live", "x" * 3000),
        ("live", "%00"),
        ("play", "stolen"),
        ("elsewhere", "sk_forged"),
    ],
)
async def test_whoever_has_no_key_is_put_off(station: Station, path: str, name: str) -> None:
    async with station.creator() as creator:
        creator.rtmp_url = f"rtmp://127.0.0.1:{station.rtmp.rtmp_port}/{path}"
        assert await creator.publish(name or "?").ended() != 0


async def test_fields_that_an_encoder_injects_touch_nobody_else(station: Station) -> None:
    async with station.creator() as victim, station.creator() as attacker:
        victim.publish()
        await victim.until("live")
        done = f"?call=publish_done&clientid=1&name={victim.key}&addr=10.0.0.1"
        encoder = attacker.publish(attacker.key + done)
        await attacker.until("live")
        encoder.kill()
        await attacker.until("reconnecting")
        assert (await victim.status())["state"] == "live"


async def test_a_stream_goes_on_while_veza_is_killed_and_is_taken_up_again(station: Station) -> None:
    async with station.creator() as creator:
        encoder = creator.publish()
        await creator.until("live")
        [before] = await creator.sessions()
        station.kill_veza()
        station.start_veza()
        await creator.until("live")
        encoder.freeze()  # only who has taken it up again sees this
        await creator.until("stalled")
        encoder.thaw()
        await creator.until("live")
        [after] = await creator.sessions()
        assert (after["id"], after["reconnects"]) == (before["id"], 0)
        assert encoder.running


async def test_a_killed_ingest_server_ends_its_streams_after_the_grace(station: Station) -> None:
    async with station.creator() as creator:
        creator.publish()
        await creator.until("live")
        station.kill_nginx()
        await creator.until_so(lambda status: status["health"] == "unknown", "of unknown health")
        await creator.until("reconnecting")
        await creator.until("ended")
        assert [session["end_reason"] for session in await creator.sessions()] == ["ingest_lost"]
        station.start_nginx()
        creator.publish()
        await creator.until("live")


async def test_encoders_of_an_ingest_server_that_restarts_come_back_into_their_sessions(station: Station) -> None:
    async with station.creator() as creator:
        encoder = creator.publish()
        await creator.until("live")
        station.kill_nginx()
        station.start_nginx()
        assert await encoder.ended() != 0
        await creator.until("reconnecting")
        creator.publish()  # the new server's client 1, most likely, as the one before was the old one's
        await creator.until("live")
        [session] = await creator.sessions()
        assert session["reconnects"] == 1


async def test_after_a_reload_encoders_come_back_when_the_old_worker_is_ended(station: Station) -> None:
    async with station.creator() as creator:
        encoder = creator.publish()
        await creator.until("live")
        station.nginx.send_signal(signal.SIGHUP)
        await creator.until("reconnecting")  # the old worker goes on serving it, and nobody sees that
        assert encoder.running
        for worker in psutil.Process(station.nginx.pid).children():
            if "shutting down" in worker.name() + " ".join(worker.cmdline()):
                worker.kill()
        assert await encoder.ended() != 0
        creator.publish()
        await creator.until("live")
        [session] = await creator.sessions()
        assert session["reconnects"] == 1


async def test_two_processes_tell_the_same_and_one_takes_over_from_the_other(station: Station) -> None:
    async with station.creator() as creator, station.beside() as other:
        creator.publish()
        await creator.until("live")
        first = creator.http
        creator.http = other
        await creator.until("live")
        station.kill_veza()  # the one that holds the session
        creator.encoders[0].freeze()
        await creator.until("stalled")
        creator.encoders[0].thaw()
        await creator.until("live")
        station.start_veza()
        creator.http = first
        await creator.until("live")
        [session] = await creator.sessions()
        assert (session["reconnects"], session["ended_at"]) == (0, None)


async def test_no_key_is_in_any_log_metric_address_or_page(station: Station) -> None:
    async with station.creator() as creator:
        creator.publish()
        await creator.until("live")
        stat, said = station.stat(), station.said()
        assert creator.stream_id in stat
        assert "publisher_let_in" in said
        files = [str(path) for path in (station.rtmp.directory / "hls").rglob("*")]
        assert any(creator.stream_id in path for path in files)
        public = (await creator.http.get(f"/live/streams/{creator.stream_id}")).text
        with psycopg.connect(station.environment["DATABASE_URL"]) as database:
            rows = database.execute(
                "SELECT (SELECT json_agg(s) FROM streams s)::text, (SELECT json_agg(a) FROM audit_entries a)::text,"
                " (SELECT json_agg(s) FROM stream_sessions s)::text"
            ).fetchone()
        assert len(station.keys) > 10
        for key in [*station.keys, HOOK_TOKEN]:
            for where in (stat, said, *files, public, str(rows)):
                assert key not in where
                assert key[3:35] not in where  # nor the part that tells whose it is


async def test_a_hook_with_a_wrong_token_is_not_there(station: Station) -> None:
    async with httpx.AsyncClient(base_url=f"{station.url}/api/v1") as http:
        for path in ("rtmp/wrong/publish", "rtmp/wrong/publish_done", "mediamtx/wrong/auth"):
            assert (await http.post(f"/hooks/{path}", content=b"")).status_code == 404
