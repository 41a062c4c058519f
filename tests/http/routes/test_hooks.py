"""What ingest servers ask: who is let in, who is put off and how, and that no key or token is told to anyone."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from uuid import UUID, uuid4

import httpx
import pytest
import trio

from tests.http.desk import refusal
from tests.http.routes.on_air import TOKEN, OnAir, form, open_on_air
from veza.domain.live import StreamState
from veza.domain.stream_keys import StreamKeys
from veza.http.routes.hooks import FAILURES
from veza.store.bridge import Database


@pytest.fixture
async def air(db: Database) -> AsyncIterator[OnAir]:
    with trio.fail_after(30):
        async with open_on_air(db) as opened:
            yield opened


async def test_an_encoder_with_the_key_is_let_in_under_the_streams_public_id(air: OnAir) -> None:
    stream_id = await air.stream(await air.desk.sign_up())
    answer = await air.publish(air.key(stream_id))
    assert (answer.status_code, answer.headers["Location"], answer.content) == (302, str(stream_id), b"")
    assert air.station.state(stream_id) is StreamState.STARTING


async def test_the_server_need_not_wait_for_the_connection_to_end(air: OnAir) -> None:
    """nginx-rtmp speaks HTTP/1.0 and waits for the end of the connection, or for its timeout."""
    key = air.key(await air.stream(await air.desk.sign_up()))
    body = form("publish", key, "1").encode()
    address = httpx.URL(air.desk.url)
    stream = await trio.open_tcp_stream(address.host, address.port or 0)
    async with stream:
        head = f"POST /api/v1/hooks/rtmp/{TOKEN}/publish HTTP/1.0\r\nContent-Length: {len(body)}\r\n\r\n"
        await stream.send_all(head.encode() + body)
        with trio.fail_after(5):
            answer = b"".join([chunk async for chunk in stream])
    assert answer.startswith(b"HTTP/1.1 302")


@pytest.mark.parametrize("call", ["publish", "publish_done"])
@pytest.mark.parametrize("token", ["wrong", TOKEN[:-1], TOKEN + "1", "%00", "ä"])
async def test_a_hook_with_a_wrong_token_is_not_there(air: OnAir, call: str, token: str) -> None:
    answer = await air.hook(call, form(call, "sk_x", "1"), token)
    assert answer.status_code in (400, 404)
    assert answer.json()["success"] is False


SENSELESS: Sequence[bytes] = [
    b"",
    b"\xff\xfe",
    b"call=publish",
    form("publish_done", "sk_x", "1").encode(),
    form("publish", "sk_x", "one").encode(),
    form("publish", "", "1").encode(),
    form("publish", "sk_%zz", "1").encode(),
    form("publish", "sk_x", "1", app="play").encode(),
    form("publish", "sk_" + "x" * 100_000, "1").encode(),
]


async def test_a_hook_that_makes_no_sense_is_refused_and_begins_nothing(air: OnAir, subtests: pytest.Subtests) -> None:
    for body in SENSELESS:
        with subtests.test(repr(body)):
            assert refusal(await air.hook("publish", body)) == (400, "invalid")
            assert air.station.live.on_air() == []


@pytest.mark.parametrize("key", ["sk_forged", "x", "sk_" + "a" * 32 + "_" + "b" * 32, "sk%5Fforged", "%C3%A4"])
async def test_a_key_that_is_none_of_ours_is_refused(air: OnAir, key: str) -> None:
    assert refusal(await air.publish(key)) == (403, "key_revoked")


async def test_a_replaced_key_one_of_a_deleted_stream_and_one_of_another_secret_are_refused(air: OnAir) -> None:
    user = await air.desk.sign_up()
    stream_id = await air.stream(user)
    other = StreamKeys(b"t" * 32).key(stream_id, 1)
    await air.desk.http.post("/live/streams/me/key/regenerate", headers={"Authorization": f"Bearer {user.access}"})
    for key in (air.key(stream_id), air.key(stream_id, 3), air.key(uuid4()), other):
        assert refusal(await air.publish(key)) == (403, "key_revoked")
    assert (await air.publish(air.key(stream_id, 2))).status_code == 302


async def test_a_flood_of_forged_keys_from_one_address_is_not_heard_while_real_ones_are(air: OnAir) -> None:
    stream_id = await air.stream(await air.desk.sign_up())
    for _ in range(FAILURES):
        assert refusal(await air.publish("sk_forged")) == (403, "key_revoked")
    answer = await air.publish("sk_forged")
    assert refusal(answer) == (429, "too_many_requests")
    assert 0 < int(answer.headers["Retry-After"]) <= 60
    assert len(air.desk.logged("publish_refused")) == FAILURES
    assert refusal(await air.publish("sk_forged", address="192.0.2.2")) == (403, "key_revoked")
    assert (await air.publish(air.key(stream_id))).status_code == 302


async def test_an_old_key_that_is_tried_for_ever_is_not_looked_up_for_ever(air: OnAir) -> None:
    stream_id = await air.stream(await air.desk.sign_up())
    old = air.key(stream_id, 7)
    for _ in range(FAILURES):
        assert refusal(await air.publish(old)) == (403, "key_revoked")
    assert refusal(await air.publish(old, address="192.0.2.2")) == (429, "too_many_requests")
    assert (await air.publish(air.key(stream_id))).status_code == 302


async def test_a_second_encoder_is_refused_and_its_leaving_is_not_the_firsts(air: OnAir) -> None:
    stream_id = await air.stream(await air.desk.sign_up())
    await air.publish(air.key(stream_id), "1")
    air.station.server.connect(stream_id)
    assert refusal(await air.publish(air.key(stream_id), "2")) == (409, "already_publishing")
    assert (await air.done(air.key(stream_id), "2")).status_code == 200
    assert air.station.state(stream_id) in (StreamState.STARTING, StreamState.LIVE)


async def test_the_publisher_leaving_is_believed_by_its_number(air: OnAir) -> None:
    stream_id = await air.live(await air.desk.sign_up())
    air.station.server.hang_up(stream_id, told=False)
    assert (await air.done(air.key(stream_id), "1")).json()["data"] == {"received": True}
    await air.until(stream_id, StreamState.RECONNECTING)


async def test_leaving_of_what_was_never_here_is_taken_note_of(air: OnAir) -> None:
    for key in ("sk_forged", air.key(uuid4())):
        assert (await air.done(key)).status_code == 200
    assert air.station.live.on_air() == []


async def test_fields_that_the_publisher_adds_are_not_read(air: OnAir) -> None:
    user = await air.desk.sign_up()
    mine, victim = await air.stream(user), await air.stream(user, "Monday")
    more = f"&call=publish_done&name={air.key(victim)}&clientid=9&addr=198.51.100.1&app=play"
    answer = await air.publish(air.key(mine), more=more)
    assert answer.headers["Location"] == str(mine)
    assert air.station.state(victim) is None


async def test_no_key_and_no_token_is_in_the_log_or_in_a_refusal(air: OnAir) -> None:
    stream_id = await air.stream(await air.desk.sign_up())
    key = air.key(stream_id)
    answers = [
        await air.publish(key),
        await air.publish(key, "2"),
        await air.publish(key + "x"),
        await air.publish(air.key(stream_id, 2)),
        await air.hook("publish", form("publish", key, "one")),
    ]
    told = json.dumps([dict(line) for line in air.desk.lines], default=str) + "".join(a.text for a in answers)
    for secret in (key, key[3:35], air.key(stream_id, 2), TOKEN):
        assert secret not in told


# -- MediaMTX ---------------------------------------------------------------------------------------------------------


async def ask(air: OnAir, **fields: object) -> httpx.Response:
    """As MediaMTX asks (its documentation, "Authentication", HTTP-based); see tests/gateways for recorded bodies."""
    body = {
        "user": "",
        "password": "",
        "token": "",
        "ip": "192.0.2.1",
        "action": "publish",
        "path": "",
        "protocol": "rtmp",
        "id": str(UUID(int=7)),
        "query": "",
    }
    return await air.desk.http.post(f"/hooks/mediamtx/{TOKEN}/auth", json=body | fields)


async def test_mediamtx_lets_in_who_shows_the_key_of_the_path(air: OnAir) -> None:
    stream_id = await air.stream(await air.desk.sign_up())
    assert (await ask(air, path=str(stream_id), password=air.key(stream_id))).status_code == 200
    assert air.station.state(stream_id) is StreamState.STARTING
    assert refusal(await ask(air, path=str(stream_id), password=air.key(stream_id))) == (409, "already_publishing")


async def test_mediamtx_lets_nobody_in_to_anothers_path_or_without_a_key(air: OnAir) -> None:
    user = await air.desk.sign_up()
    mine, other = await air.stream(user), await air.stream(user, "Monday")
    assert refusal(await ask(air, path=str(other), password=air.key(mine))) == (403, "key_revoked")
    assert refusal(await ask(air, path=str(mine), password="sk_forged")) == (403, "key_revoked")
    for fields in ({"path": str(mine)}, {"path": "elsewhere", "password": air.key(mine)}, {"action": "api"}):
        assert (await ask(air, **fields)).status_code == 403
    assert air.station.live.on_air() == []


async def test_mediamtx_lets_players_watch(air: OnAir) -> None:
    assert (await ask(air, action="read", path=str(uuid4()), protocol="hls")).status_code == 200


async def test_mediamtx_with_a_wrong_token_or_nonsense_is_refused(air: OnAir) -> None:
    answer = await air.desk.http.post("/hooks/mediamtx/wrong/auth", json={})
    assert refusal(answer) == (404, "not_found")
    for body in (b"", b"[]", b"{}", b'{"action": 1}'):
        answer = await air.desk.http.post(f"/hooks/mediamtx/{TOKEN}/auth", content=body)
        assert refusal(answer) == (400, "invalid")
