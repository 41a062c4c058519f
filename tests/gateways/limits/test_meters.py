"""Both meters do the same, and neither takes more memory or time than it may."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import structlog
import trio
from coredis import Redis

from tests.redis import RedisServer, redis_server
from veza.domain.limits import Claim, Limit, refused
from veza.gateways.limits import Meter
from veza.gateways.limits.memory import InMemory
from veza.gateways.limits.redis import PREFIX, InRedis

THREE = Limit("three", 3, 3600)
ONE = Limit("one", 1, 3600)
QUICK = Limit("quick", 1, 1)


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with redis_server() as running:
        yield running


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """No pause of a busy machine is taken for a Redis that is away."""
    monkeypatch.setattr("veza.gateways.limits.redis.ANSWER_SECONDS", 5.0)


@pytest.fixture(params=["memory", "redis"])
async def meter(request: pytest.FixtureRequest, patient: None) -> AsyncIterator[Meter]:
    if request.param == "memory":
        yield InMemory()
    else:
        running: RedisServer = request.getfixturevalue("server")
        async with InRedis.open(running.url, InMemory()) as opened:
            assert not opened.away
            yield opened


async def allowed(meter: Meter, *claims: Claim) -> bool:
    return refused(await meter.take(claims)) is None


async def test_a_quota_is_counted_for_each_claimant_alone(meter: Meter) -> None:
    with trio.fail_after(10):
        ann = Claim(THREE, "ann")
        told = [(await meter.take([ann]))[0] for _ in range(4)]
        assert [each.allowed for each in told] == [True, True, True, False]
        assert [each.remaining for each in told] == [2, 1, 0, 0]
        assert told[3].more_in == pytest.approx(1200, abs=5)
        assert await allowed(meter, Claim(THREE, "bo"))


async def test_of_several_claims_all_are_counted_or_none(meter: Meter) -> None:
    with trio.fail_after(10):
        both = [Claim(THREE, "ann"), Claim(ONE, "ann")]
        assert await allowed(meter, *both)
        for _ in range(5):
            verdicts = await meter.take(both)
            assert [each.allowed for each in verdicts] == [True, False]
        assert (await meter.take([Claim(THREE, "ann")]))[0].remaining == 1


async def test_what_is_given_back_was_never_counted(meter: Meter) -> None:
    with trio.fail_after(10):
        for _ in range(10):
            assert await allowed(meter, Claim(ONE, "ann"))
            await meter.give_back([Claim(ONE, "ann")])
        await meter.give_back([Claim(ONE, "nobody")])
        assert await allowed(meter, Claim(ONE, "nobody"))
        assert not await allowed(meter, Claim(ONE, "nobody"))


async def test_a_hundred_at_once_get_no_more_than_the_quota(meter: Meter) -> None:
    let_in: list[bool] = []

    async def ask() -> None:
        let_in.append(await allowed(meter, Claim(THREE, "ann")))

    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            for _ in range(100):
                nursery.start_soon(ask)
    assert (len(let_in), sum(let_in)) == (100, 3)


@pytest.mark.usefixtures("patient")
async def test_two_processes_count_together_whatever_their_clocks_say(server: RedisServer) -> None:
    with trio.fail_after(10):
        async with (
            InRedis.open(server.url, InMemory(clock=lambda: 0.0)) as one,
            InRedis.open(server.url, InMemory(clock=lambda: 1e9)) as other,
        ):
            told = [await allowed(each, Claim(THREE, "ann")) for each in (one, other, one, other)]
    assert told == [True, True, True, False]


async def test_nothing_is_left_in_redis_of_who_has_not_asked_for_a_while(server: RedisServer) -> None:
    with trio.fail_after(10):
        async with InRedis.open(server.url, InMemory()) as meter, Redis.from_url(server.url) as redis:
            assert await allowed(meter, Claim(QUICK, "ann"))
            while await redis.exists([f"{PREFIX}quick:ann"]):  # it expires by Redis's clock
                pass
            assert await redis.dbsize() == 0
            assert await allowed(meter, Claim(QUICK, "ann"))


async def test_memory_does_not_grow_with_who_asks_and_no_flood_makes_it_forget_who_used_most() -> None:
    meter = InMemory(clock=lambda: 100.0, claimants=50)
    spent = Claim(THREE, "spent")
    for _ in range(3):
        assert await allowed(meter, spent)
    for number in range(5000):
        assert await allowed(meter, Claim(THREE, f"passer-by {number}"))
        assert len(meter) <= 50
    assert not await allowed(meter, spent)


async def test_who_used_nothing_is_not_kept() -> None:
    meter = InMemory()
    await meter.take([Claim(THREE, "ann")])
    await meter.give_back([Claim(THREE, "ann")])
    assert len(meter) == 0


# The client never closes the streams of a connection that came to nothing.
UNCLOSED = pytest.mark.filterwarnings("ignore:Exception ignored in. <function MemoryObject")

# -- while Redis is away ----------------------------------------------------------------------------------------------


@pytest.fixture
def lines() -> Iterator[list[Any]]:
    with structlog.testing.capture_logs() as captured:
        yield captured


def told(lines: list[Any]) -> list[str]:
    return [line["event"] for line in lines]


async def until_back(meter: InRedis) -> None:
    while meter.away:  # noqa: ASYNC110 - it looks once a second, and announces it to nobody
        await trio.sleep(0.02)


@UNCLOSED
async def test_while_redis_is_away_memory_counts_and_it_is_said_once(server: RedisServer, lines: list[Any]) -> None:
    with trio.fail_after(20):
        async with InRedis.open(server.url, InMemory()) as meter:
            assert await allowed(meter, Claim(ONE, "ann"))
            server.stop()
            assert [await allowed(meter, Claim(THREE, "bo")) for _ in range(4)] == [True, True, True, False]
            assert meter.away
            assert told(lines) == ["redis_away"]
            server.start()
            await until_back(meter)
            assert told(lines) == ["redis_away", "redis_back"]
            assert [await allowed(meter, Claim(ONE, "bo")) for _ in range(2)] == [True, False]
            assert not meter.away


@UNCLOSED
async def test_a_redis_that_is_not_there_at_the_start_keeps_nobody_waiting(lines: list[Any]) -> None:
    nobody = RedisServer()
    with trio.fail_after(20):
        async with InRedis.open(nobody.url, InMemory()) as meter:
            assert meter.away
            assert [await allowed(meter, Claim(ONE, "ann")) for _ in range(2)] == [True, False]
            nobody.start()
            try:
                await until_back(meter)
                assert await allowed(meter, Claim(ONE, "ann"))
            finally:
                nobody.stop()
    assert told(lines) == ["redis_away", "redis_back"]


@UNCLOSED
async def test_a_redis_that_hangs_holds_a_request_up_for_a_moment_and_the_next_not_at_all(
    server: RedisServer, lines: list[Any]
) -> None:
    with trio.fail_after(30):
        async with InRedis.open(server.url, InMemory()) as meter:
            assert await allowed(meter, Claim(THREE, "ann"))
            server.freeze()
            try:
                began = trio.current_time()
                async with trio.open_nursery() as nursery:
                    for _ in range(100):
                        nursery.start_soon(meter.take, [Claim(THREE, "ann")])
                assert trio.current_time() - began < 2
                assert meter.away
                began = trio.current_time()
                await meter.take([Claim(THREE, "ann")])
                assert trio.current_time() - began < 0.1
            finally:
                server.thaw()
            await until_back(meter)
            assert await allowed(meter, Claim(ONE, "cy"))
    assert told(lines) == ["redis_away", "redis_back"]


@UNCLOSED
async def test_a_redis_that_answers_and_writes_nothing_is_away_until_it_writes(
    server: RedisServer, lines: list[Any]
) -> None:
    with trio.fail_after(20):
        async with InRedis.open(server.url, InMemory()) as meter, Redis.from_url(server.url) as redis:
            await redis.config_set({"maxmemory": 1})
            assert [await allowed(meter, Claim(ONE, "ann")) for _ in range(2)] == [True, False]
            while await refused_writes(redis) < 2:  # noqa: ASYNC110 - Redis announces it to nobody
                await trio.sleep(0.05)
            assert told(lines) == ["redis_away"]
            await redis.config_set({"maxmemory": 0})
            await until_back(meter)
            assert await allowed(meter, Claim(ONE, "ann"))
    assert told(lines) == ["redis_away", "redis_back"]


async def refused_writes(redis: Redis[Any]) -> int:
    """How many of our looks were refused so far."""
    statistics = (await redis.info("commandstats")).get("cmdstat_set", {})
    return int(statistics.get("rejected_calls", 0)) if isinstance(statistics, dict) else 0


async def test_who_gives_up_in_the_middle_takes_no_connection_along(server: RedisServer, lines: list[Any]) -> None:
    with trio.fail_after(20):
        async with InRedis.open(server.url, InMemory()) as meter:
            for number in range(200):
                with trio.move_on_after(0):
                    await meter.take([Claim(THREE, str(number))])
            assert await allowed(meter, Claim(ONE, "ann"))
            assert not meter.away
    assert told(lines) == []
