"""Claims counted in Redis, for all processes together, by a script: nothing comes between its looking and its counting.

Redis's own clock is gone by, so that processes whose clocks differ agree. What is worth nothing any more expires there.
While it is away each process counts for itself, which allows as many times the quota as there are processes: better
than letting everyone in, and than turning everyone away.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final, cast

import structlog
import trio
from coredis import Redis
from coredis.retry import NoRetryPolicy

from veza.domain.limits import Claim, Verdict, judge
from veza.gateways.limits.memory import InMemory

ANSWER_SECONDS: Final = 0.25  # it is near and takes a millisecond: what is slower than this holds up every request
PAUSE_SECONDS: Final = 1.0  # between two looks whether it is back
CONNECTIONS: Final = 4  # a request is sent without waiting for the answer to the one before, so that one serves many
PREFIX: Final = "veza:limit:"  # of its keys: other programs may keep theirs beside them
LOOK: Final = f"{PREFIX}look"  # what is written to see whether it is back

TAKE: Final = """
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
local tats, admitted = {}, 1
for i, key in ipairs(KEYS) do
  local interval, window = tonumber(ARGV[2 * i - 1]), tonumber(ARGV[2 * i])
  tats[i] = math.max(tonumber(redis.call('GET', key) or now), now)
  if tats[i] + interval - window > now + 0.000001 then admitted = 0 end
end
local told = {admitted, string.format('%.6f', now)}
for i, key in ipairs(KEYS) do
  local tat = tats[i]
  if admitted == 1 then
    tat = tat + tonumber(ARGV[2 * i - 1])
    redis.call('SET', key, string.format('%.6f', tat), 'PX', math.ceil((tat - now) * 1000))
  end
  told[i + 2] = string.format('%.6f', tat)
end
return told
"""

GIVE_BACK: Final = """
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
for i, key in ipairs(KEYS) do
  local kept = redis.call('GET', key)
  if kept then
    local tat = tonumber(kept) - tonumber(ARGV[i])
    if tat > now then
      redis.call('SET', key, string.format('%.6f', tat), 'PX', math.ceil((tat - now) * 1000))
    else
      redis.call('DEL', key)
    end
  end
end
return 0
"""

log = structlog.get_logger()
logging.getLogger("coredis").setLevel(logging.CRITICAL)  # it writes a traceback of each attempt; we say it once


class InRedis:
    """A Meter over a Redis server, and over this process's memory while there is none."""

    def __init__(self, url: str, memory: InMemory) -> None:
        self._url = url
        self._memory = memory
        self._redis: Redis[str] | None = None
        self._failed = trio.Event()
        self._told: bool | None = None

    @classmethod
    @asynccontextmanager
    async def open(cls, url: str, memory: InMemory) -> AsyncIterator[InRedis]:
        """A meter for the length of the block, which begins once Redis has answered, or has not. Its URL is of the
        form ``redis://:password@host:6379/0``, with ``rediss`` for TLS."""
        meter = cls(url, memory)
        async with trio.open_nursery() as nursery:
            await nursery.start(meter._keep)
            yield meter
            nursery.cancel_scope.cancel()

    @property
    def away(self) -> bool:
        """Whether this process counts for itself."""
        return self._redis is None

    async def take(self, claims: Sequence[Claim]) -> Sequence[Verdict]:
        told = await self._run(
            TAKE, claims, [str(number) for claim in claims for number in (claim.limit.interval, claim.limit.window)]
        )
        if told is None:
            return self._memory.take_now(claims)
        admitted, now, *tats = told
        return judge(claims, [float(tat) for tat in tats], float(now), admitted=bool(int(admitted)))

    async def give_back(self, claims: Sequence[Claim]) -> None:
        if await self._run(GIVE_BACK, claims, [str(claim.limit.interval) for claim in claims]) is None:
            await self._memory.give_back(claims)

    async def _run(self, script: str, claims: Sequence[Claim], numbers: Sequence[str]) -> list[str] | None:
        """What the script answers; None if Redis is away."""
        if self._redis is None:
            return None
        keys = [f"{PREFIX}{claim.limit.name}:{claim.by}" for claim in claims]
        try:
            # Shielded: a request that is cut off in the middle of connecting would keep the connection's place.
            with trio.CancelScope(shield=True), trio.fail_after(ANSWER_SECONDS):
                answer: object = await self._redis.register_script(script)(keys=keys, args=numbers)
        except Exception as error:  # noqa: BLE001 - its client lets the transport's through, and those of closed pools
            self._redis = None
            self._tell(error)
            self._failed.set()
            return None
        return cast("list[str]", answer if isinstance(answer, list) else [])

    async def _keep(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Connect, and whenever a call has failed connect anew: nothing of a client that failed is used again."""
        while True:
            self._failed = trio.Event()
            try:
                async with self._client() as redis:
                    with trio.fail_after(ANSWER_SECONDS * 2):
                        # One that is full, or a replica, answers a ping as well, and counts nothing.
                        await redis.set(LOOK, "1", px=1)
                    self._redis = redis
                    self._tell(None)
                    task_status.started()
                    task_status = trio.TASK_STATUS_IGNORED
                    await self._failed.wait()
            except* Exception as errors:  # noqa: BLE001 - likewise
                self._redis = None
                self._tell(errors)
            task_status.started()
            task_status = trio.TASK_STATUS_IGNORED
            await trio.sleep(PAUSE_SECONDS)

    def _client(self) -> Redis[str]:
        return Redis.from_url(
            self._url,
            decode_responses=True,
            retry_policy=NoRetryPolicy(),
            max_connections=CONNECTIONS,
            connect_timeout=ANSWER_SECONDS,
            stream_timeout=ANSWER_SECONDS,
        )

    def _tell(self, error: BaseException | None) -> None:
        """Say once that it went away, and once that it is back."""
        away = error is not None
        if away == self._told or (self._told is None and not away):
            self._told = away
            return
        self._told = away
        if away:
            log.warning("redis_away", error=_kind(error), counting="in this process")
        else:
            log.info("redis_back")


def _kind(error: BaseException | None) -> str:
    """Of what kind it was; its words may tell the address."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return type(error).__name__
