"""Passwords: hashed and verified with equal work, in a bounded number of threads, behind a bounded queue."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from time import perf_counter
from typing import Literal

import pytest
import trio
from argon2 import PasswordHasher, Type, extract_parameters

from tests.people import cheap_hasher
from veza.domain.errors import Unavailable
from veza.gateways.passwords import LONGEST, Passwords, Verdict, recommended

RIGHT = "correct-horse-1"


def passwords(**bounds: int) -> Passwords:
    return Passwords(cheap_hasher(), **bounds)


async def test_a_password_is_right_for_its_own_hash_and_wrong_for_every_other() -> None:
    desk = passwords()
    kept, others = await desk.hash(RIGHT), await desk.hash("another-1")
    assert await desk.verify(RIGHT, kept) is Verdict.RIGHT
    assert await desk.verify(RIGHT, others) is Verdict.WRONG
    assert await desk.verify("", kept) is Verdict.WRONG


async def test_the_same_password_never_hashes_alike_and_never_shows() -> None:
    desk = passwords()
    one, other = await desk.hash(RIGHT), await desk.hash(RIGHT)
    assert one != other
    assert RIGHT not in one


async def test_a_password_typed_on_another_kind_of_keyboard_is_the_same() -> None:
    desk = passwords()
    assert await desk.verify("cafe\u0301-1234", await desk.hash("caf\u00e9-1234")) is Verdict.RIGHT


async def test_one_that_is_too_long_is_wrong_at_once_whatever_it_would_take_to_compose_it() -> None:
    desk = passwords()
    for long in ("x" * (LONGEST + 1), "a" + "\u0300" * 20_000 + "\u0316" * 20_000):
        began = perf_counter()
        assert await desk.verify(long, desk.hasher.hash(long)) is Verdict.WRONG
        assert perf_counter() - began < 1.0
    longest = "x" * LONGEST
    assert await desk.verify(longest, await desk.hash(longest)) is Verdict.RIGHT


async def test_a_hash_made_with_other_parameters_is_stale_and_still_right() -> None:
    old = Passwords(cheap_hasher(time_cost=2))
    kept = await old.hash(RIGHT)
    assert await passwords().verify(RIGHT, kept) is Verdict.STALE
    assert await passwords().verify("wrong-one-1", kept) is Verdict.WRONG


@pytest.mark.parametrize("kept", ["!", "$argon2id$v=19$m=8,t=1,p=1$broken", "plain text"])
async def test_what_is_no_hash_lets_nobody_in(kept: str) -> None:
    assert await passwords().verify(kept, kept) is Verdict.WRONG


async def test_new_hashes_are_argon2id_with_at_least_what_owasp_asks_for() -> None:
    told = extract_parameters(await Passwords().hash(RIGHT))
    assert told.type is Type.ID
    assert told.memory_cost >= 19 * 1024
    assert told.time_cost >= 2
    assert told.salt_len >= 16


class Watched(PasswordHasher):
    """Notes against which hashes it was made to work."""

    seen: list[str]

    def verify(self, hash: str | bytes, password: str | bytes) -> Literal[True]:  # noqa: A002 - as it is called there
        self.seen.append(str(hash))
        return super().verify(hash, password)


async def test_a_stranger_costs_as_much_work_as_a_user_and_is_always_wrong() -> None:
    hasher = recommended()
    watched = Watched(hasher.time_cost, hasher.memory_cost, hasher.parallelism)
    watched.seen = []
    desk = Passwords(watched)
    kept = await desk.hash(RIGHT)
    assert await desk.verify(RIGHT, kept) is Verdict.RIGHT
    for guess in (RIGHT, ""):
        assert await desk.verify(guess, None) is Verdict.WRONG
    own, nobodys, _ = watched.seen
    assert extract_parameters(nobodys) == extract_parameters(own)


@dataclass
class Stopped(PasswordHasher):
    """A hasher whose threads wait to be let go, and count themselves."""

    go: threading.Event = field(default_factory=threading.Event)
    entered: int = 0
    left: int = 0

    def __post_init__(self) -> None:
        super().__init__(time_cost=1, memory_cost=8, parallelism=1)

    def hash(self, password: str | bytes, *, salt: bytes | None = None) -> str:
        self.entered += 1
        assert self.go.wait(10)
        self.left += 1
        return "a hash"


async def until_load(desk: Passwords, working: int, waiting: int) -> None:
    while (desk.load.working, desk.load.waiting) != (working, waiting):
        await trio.lowlevel.checkpoint()


async def until_entered(hasher: Stopped, count: int) -> None:
    while hasher.entered < count:
        await trio.lowlevel.checkpoint()


async def test_only_so_many_work_at_once_the_rest_wait_and_what_is_too_many_is_refused() -> None:
    hasher = Stopped()
    desk = Passwords(hasher, at_once=2, waiting=3)
    hashed: list[str] = []

    async def one() -> None:
        hashed.append(await desk.hash(RIGHT))

    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(one)
            await until_load(desk, working=2, waiting=3)
            await until_entered(hasher, 2)
            with pytest.raises(Unavailable) as refused:
                await desk.hash(RIGHT)
            assert refused.value.code == "overloaded"
            with pytest.raises(Unavailable):
                await desk.verify(RIGHT, None)
            assert hasher.entered == 2
            hasher.go.set()
    assert len(hashed) == 5
    assert (desk.load.working, desk.load.waiting) == (0, 0)


async def test_a_cancel_takes_who_waits_out_of_the_queue_and_leaves_no_thread_behind() -> None:
    hasher = Stopped()
    desk = Passwords(hasher, at_once=1)

    async def one(scope: trio.CancelScope) -> None:
        with scope:
            await desk.hash(RIGHT)

    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            working, waiting = trio.CancelScope(), trio.CancelScope()
            nursery.start_soon(one, working)
            await until_entered(hasher, 1)
            nursery.start_soon(one, waiting)
            await until_load(desk, working=1, waiting=1)
            working.cancel()
            waiting.cancel()
            await until_load(desk, working=1, waiting=0)
            assert hasher.left == 0
            hasher.go.set()
    assert (hasher.entered, hasher.left) == (1, 1)
    assert waiting.cancelled_caught
