"""Payouts drained: how near the worker comes to what its concurrency allows, and what a transfer costs it.

Sixteen calls of 250 ms side by side are 64 transfers a second at best. The worker, a real PostgreSQL and the Stripe
stand-in, which is told to take 250 ms, are processes of their own. The floor of the CPU is the Stripe client alone:
the same calls in the same process, from the same gateway, with nobody to claim and record them.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from random import Random
from statistics import median
from time import perf_counter, process_time
from typing import Any, Final
from uuid import UUID, uuid4

import httpx
import psycopg
import trio
from hypercorn.config import Config
from hypercorn.trio import serve

from bench.measure import Comparison, Measure, interleaved
from veza import logs
from veza.actors.payouts import Payer
from veza.actors.queue import AT_ONCE, Leases
from veza.domain.attempts import Paid, RetryPolicy
from veza.domain.ids import system_mint, utc_now
from veza.domain.payouts import Claim, Transfer, TransferStatus
from veza.gateways.stripe import Stripe
from veza.sandbox.config import SandboxConfig
from veza.sandbox.stripe import stripe_app
from veza.store.bridge import Database
from veza.store.embedded import embedded_dsn
from veza.store.migrate import migrate
from veza.store.payouts import Payouts
from veza.store.wire import Wire
from veza.supervisors import one_for_one, permanent, running

CALL_SECONDS: Final = 0.25
IDEAL: Final = AT_ONCE / CALL_SECONDS  # transfers a second
MANY: Final = 320  # five seconds at the ideal: the first and the last batch weigh little
ROUNDS: Final = 3
RATE_AIM, TRIPS_AIM = 0.9, 4.0
KEY: Final = "sk_test_bench"
STRIPE_AT: Final = "/dev/shm"  # noqa: S108 - the stand-in syncs each call to its disk, and is not what is measured

_directory: Final = partial(tempfile.TemporaryDirectory, prefix="veza-bench-")

# A sale's rows, as settlement leaves them: paid, captured, its transfer due.
SALE: Final = """
WITH sold AS (
    INSERT INTO orders (id, buyer_id, status, currency, total_cents, paid_at, expires_at, invoice_number)
    SELECT gen_random_uuid(), %(seller)s, 'paid', 'EUR', 2999, now(), now(),
        '2026-' || lpad(((SELECT count(*) FROM orders) + n)::text, 6, '0') FROM generate_series(1, %(many)s) AS n
    RETURNING id
), earned AS (
    INSERT INTO earnings (order_id, seller_id, gross_cents, fee_cents, fee_bp)
    SELECT id, %(seller)s, 2999, 300, 1000 FROM sold
), captured AS (
    INSERT INTO journals (kind, external_ref, order_id) SELECT 'capture', 'hyperswitch:' || id, id FROM sold
    RETURNING id
), entered AS (
    INSERT INTO entries (journal_id, account_id, amount_cents, currency)
    SELECT captured.id, account.id, CASE kind WHEN 'clearing' THEN 2999 WHEN 'seller' THEN -2699 ELSE -300 END, 'EUR'
    FROM captured, ledger_accounts AS account WHERE kind <> 'payouts'
)
INSERT INTO transfers (id, order_id, seller_id, amount_cents, platform_fee_cents, currency, status, next_retry_at)
SELECT gen_random_uuid(), id, %(seller)s, 2699, 300, 'EUR', 'pending', now() FROM sold
"""


def run() -> list[Measure]:
    """The benchmark of this module."""
    drains: list[dict[str, float]] = []
    calls: list[dict[str, float]] = []
    with _directory() as name, _directory(dir=STRIPE_AT) as memory, embedded_dsn(Path(name)) as dsn:
        migrate(dsn)
        with _process("stripe", memory) as stripe, psycopg.connect(dsn, autocommit=True) as connection:
            url = stripe.read()
            seller = _seller(connection, url)
            with _process("worker", dsn, url) as worker:

                def drain() -> float:
                    connection.execute(SALE, {"seller": seller, "many": MANY})
                    drains.append(worker.turn("drain"))
                    left = connection.execute("SELECT count(*) FROM transfers WHERE status <> 'completed'").fetchone()
                    assert left == (0,)
                    return drains[-1]["cpu"]

                def call() -> float:
                    calls.append(worker.turn("client"))
                    return calls[-1]["cpu"]

                cpu = interleaved(drain, call, ROUNDS)
    return list(_measures(cpu, drains[2:], calls[1:]))  # as `interleaved` does, without the round that warms up


def _measures(cpu: Comparison, drains: list[dict[str, float]], calls: list[dict[str, float]]) -> Iterator[Measure]:
    rates = [MANY / drain["seconds"] for drain in drains]
    rate, trips = median(rates), max(drain["trips"] for drain in drains) / MANY
    client_rate = median(MANY / call["seconds"] for call in calls)
    yield Measure(
        name=f"payouts drained, {AT_ONCE} calls of {CALL_SECONDS * 1000:g} ms, against the ideal",
        value=rate / IDEAL,
        unit="x",
        aim=f">= {RATE_AIM}",
        met=rate / IDEAL >= RATE_AIM,
        aa_spread=max(rates) / min(rates) - 1,
        detail=f"{rate:.1f} of {IDEAL:g} a second; the client alone: {client_rate:.1f}",
    )
    yield Measure(
        name="SQL round trips a transfer, claiming included",
        value=trips,
        unit="",
        aim=f"<= {TRIPS_AIM:g}",
        met=trips <= TRIPS_AIM,
        aa_spread=None,
        detail=f"{MANY} transfers, BEGIN and COMMIT counted",
    )
    yield Measure(
        name="CPU a transfer against the Stripe client's own",
        value=cpu.ratio,
        unit="x",
        aim="",
        met=None,
        aa_spread=cpu.aa_spread,
        detail=f"the client alone: {cpu.b / MANY * 1000:.2f} ms a call",
    )


def _seller(connection: psycopg.Connection[Any], url: str) -> UUID:
    """A seller on board, and the accounts that their sales move money between."""
    seller = uuid4()
    account = httpx.post(f"{url}/sandbox/accounts", json={}).raise_for_status().json()["id"]
    slow = {"kind": "slow", "match": {"path": "/v1/transfers"}, "times": None, "seconds": CALL_SECONDS}
    httpx.post(f"{url}/sandbox/faults", json=slow).raise_for_status()
    connection.execute(
        "INSERT INTO users (id, username, email, password_hash) VALUES (%s, 'seller', 'seller@veza.example', '')",
        [seller],
    )
    connection.execute(
        "INSERT INTO connect_accounts (user_id, account_id, transfers_active) VALUES (%s, %s, true)",
        [seller, account],
    )
    connection.execute(
        "INSERT INTO ledger_accounts (kind, owner, currency) VALUES ('clearing', NULL, 'EUR'),"
        " ('platform_fee', NULL, 'EUR'), ('payouts', NULL, 'EUR'), ('seller', %s, 'EUR')",
        [seller],
    )
    return seller


class Process:
    """A part of this benchmark in a process of its own, which is given a line and answers with one."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def read(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def turn(self, what: str) -> dict[str, float]:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{what}\n")
        self._process.stdin.flush()
        answer: dict[str, float] = json.loads(self.read())
        return answer


@contextmanager
def _process(*arguments: str) -> Iterator[Process]:
    command = [sys.executable, "-m", "bench.payouts", *arguments]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield Process(process)
        finally:
            process.kill()


# -- inside the processes ----------------------------------------------------------------------------------------------


async def _stripe(directory: str) -> None:
    config = Config()
    config.bind = ["127.0.0.1:0"]
    config.errorlog = None
    app = stripe_app(SandboxConfig(Path(directory), KEY, "whsec_bench", "", ""))
    async with trio.open_nursery() as nursery:
        [url] = await nursery.start(partial(serve, app, config))
        print(url, flush=True)


async def _worker(dsn: str, url: str) -> None:
    async with (
        Database.open(dsn, size=10) as database,
        Stripe.open(KEY, base=url, timeout=20, currency="EUR") as stripe,
    ):
        payouts = Payouts(database, system_mint())
        destination = str(await database.fetchval("SELECT account_id FROM connect_accounts"))
        trips = _count_trips()
        while line := (await trio.to_thread.run_sync(sys.stdin.readline)).strip():
            began, cpu, before = perf_counter(), process_time(), len(trips)
            await (_drain(payouts, stripe) if line == "drain" else _call(stripe, destination))
            spent = {"seconds": perf_counter() - began, "cpu": process_time() - cpu, "trips": len(trips) - before}
            print(json.dumps(spent), flush=True)


def _count_trips() -> list[None]:
    """Each statement sent from now on leaves one behind."""
    trips: list[None] = []
    step = Wire.step

    async def counted(self: Wire, operation: Any) -> Any:
        trips.append(None)
        return await step(self, operation)

    vars_of_wire: Any = Wire
    vars_of_wire.step = counted
    return trips


async def _drain(payouts: Payouts, stripe: Stripe) -> None:
    child = permanent("payouts", lambda: Payer(payouts, stripe, RetryPolicy(), Leases(), Random(7)))
    async with running(one_for_one("bench", child), clock=utc_now, random=Random(7)):
        while child.ref.snapshot is None or child.ref.snapshot.done < MANY:  # noqa: ASYNC110 - it is only published
            await trio.sleep(0.005)


async def _call(stripe: Stripe, destination: str) -> None:
    limit = trio.CapacityLimiter(AT_ONCE)

    async def pay(claim: Claim) -> None:
        async with limit:
            assert isinstance(await stripe.transfer(claim), Paid)

    async with trio.open_nursery() as nursery:
        for _ in range(MANY):
            nursery.start_soon(
                pay, replace(CLAIM, transfer=replace(CLAIM.transfer, id=uuid4()), destination=destination)
            )


CLAIM: Final = Claim(
    id=UUID(int=1),
    transfer=Transfer(
        id=UUID(int=1),
        order_id=UUID(int=2),
        seller_id=UUID(int=3),
        amount_cents=2699,
        platform_fee_cents=300,
        currency="EUR",
        status=TransferStatus.PROCESSING,
        hold_reason=None,
        retry_count=0,
        attempts=1,
        key_epoch=0,
        next_retry_at=None,
        key_used_at=None,
        doubtful=False,
        absent_since=None,
        external_ref=None,
        failure_code=None,
        failure_message=None,
        created_at=datetime(2026, 2, 23, tzinfo=UTC),
        completed_at=None,
    ),
    destination=None,
    claimed_at=datetime(2026, 2, 23, tzinfo=UTC),
)


if __name__ == "__main__":
    if sys.argv[1] == "stripe":
        trio.run(_stripe, sys.argv[2])
    else:
        with open(os.devnull, "w", buffering=1) as nobody:
            logs.configure(log_format="json", out=nobody)  # lines are written as always, and read by nobody
            trio.run(_worker, sys.argv[2], sys.argv[3])
