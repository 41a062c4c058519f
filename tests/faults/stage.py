"""Where payouts are hurt: a database, a provider that does as it is told, sales to pay out, and the proof they were.

The provider runs in the test, served over HTTP; whoever pays runs as a whole process, or in the test as `working`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import psycopg
import trio
from pydantic import SecretStr

from tests.house import free_port
from tests.processes import Program, clean_environment, program, veza
from tests.sales import Sales
from tests.sandbox.running import NO_CERTIFICATES, Control, Running, running_sandbox
from veza.actors import payouts, queue
from veza.compose import House, house
from veza.domain.audit import By
from veza.domain.payouts import Transfer, TransferStatus
from veza.gateways.stripe import Stripe
from veza.settings import Settings
from veza.store.bridge import Database
from veza.store.ledger import Ledger
from veza.store.payouts import Payouts
from veza.supervisors.running import stop

POLL_SECONDS = 0.02  # between two looks at what happens in another process
CALL_SECONDS = 20.0  # the provider's timeout where no test is about it: long enough for any pause of a busy machine

# In whole seconds, as the settings are: the shortest there are.
PATIENCE: dict[str, float] = {
    "transfer_retry_base_seconds": 1,
    "transfer_ambiguity_seconds": 1,
    "funds_probe_seconds": 1,
    "provider_timeout_seconds": CALL_SECONDS,
    "transfer_claim_seconds": 60,
}


GATE = """
CREATE FUNCTION gate() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN PERFORM pg_advisory_xact_lock_shared(1); RETURN NULL; END $$
"""
POST = """
CREATE CONSTRAINT TRIGGER gate AFTER {event} DEFERRABLE INITIALLY {when} FOR EACH ROW EXECUTE FUNCTION gate()
"""


@dataclass(frozen=True)
class Seller:
    id: UUID
    account: str


@dataclass(frozen=True)
class Stage:
    dsn: str
    db: Database
    sandbox: Running
    stripe: Stripe
    sales: Sales
    http: httpx.AsyncClient
    outside: psycopg.Connection[tuple[Any, ...]]
    directory: Path

    @property
    def control(self) -> Control:
        return self.sandbox.stripe_control

    # -- sales ---------------------------------------------------------------------------------------------------------

    async def seller(self) -> Seller:
        """One on board at the provider, and known to be."""
        account = await self.control.account()
        return Seller(await self.sales.seller(account), account)

    async def due(self) -> UUID:
        """A transfer that is due, of a seller of its own."""
        return await self.sales.sale((await self.seller()).id)

    async def transfer(self, transfer_id: UUID) -> Transfer:
        return await Payouts(self.db, self.sales.new_id).get(transfer_id)

    async def completed(self, *transfers: UUID) -> bool:
        sql = "SELECT count(*) FROM transfers WHERE status = 'completed' AND id = ANY($1)"
        return bool(await self.db.fetchval(sql, transfers) == len(transfers))

    async def attempts(self, transfer_id: UUID) -> list[str | None]:
        """What came of each, in their order; null for one whose end nobody wrote down."""
        sql = "SELECT outcome FROM transfer_attempts WHERE transfer_id = $1 ORDER BY started_at"
        return [row["outcome"] for row in await self.db.fetch(sql, transfer_id)]

    async def ended(self) -> int:
        """How many attempts had their end written down."""
        number: int = await self.db.fetchval("SELECT count(*) FROM transfer_attempts WHERE finished_at IS NOT NULL")
        return number

    async def in_hand(self) -> int:
        number: int = await self.db.fetchval("SELECT count(claim_id) FROM transfers")
        return number

    # -- time passes ---------------------------------------------------------------------------------------------------

    async def let_claims_lapse(self) -> None:
        async with self.db.transaction() as tx:
            await tx.execute("UPDATE transfers SET claimed_until = now() WHERE claim_id IS NOT NULL")

    async def hurry(self) -> None:
        """What waits for its next try waits no longer."""
        async with self.db.transaction() as tx:
            await tx.execute("UPDATE transfers SET next_retry_at = now() WHERE next_retry_at > now()")

    # -- the provider --------------------------------------------------------------------------------------------------

    async def at_provider(self, transfer_id: UUID) -> list[dict[str, Any]]:
        """Every transfer the provider made for it."""
        answer = await self.http.get("/v1/transfers", params={"transfer_group": str(transfer_id), "limit": 100})
        made: list[dict[str, Any]] = answer.raise_for_status().json()["data"]
        return made

    async def asked(self, transfer_id: UUID) -> list[tuple[int, int | str]]:
        """What the provider was asked to make, by the epoch of the key, and with what status it answered."""
        lines = await self.control.requests(method="POST", path="/v1/transfers")
        asked = [(line["idempotency_key"].rpartition(":"), line["status"]) for line in lines]
        return [(int(epoch), status) for (of, _, epoch), status in asked if of == str(transfer_id)]

    async def epochs(self, transfer_id: UUID) -> list[int]:
        return [epoch for epoch, _ in await self.asked(transfer_id)]

    async def keys(self) -> set[str]:
        """Every key that a transfer was asked for with."""
        return {line["idempotency_key"] for line in await self.control.requests(method="POST", path="/v1/transfers")}

    async def fault(
        self, kind: str, *, times: int | None = 1, seconds: float | None = None, of: UUID | None = None
    ) -> int:
        """Something that happens to requests for transfers, or only to those for one of them."""
        match = {} if of is None else {"transfer_group": str(of)}
        return await self.control.fault(
            kind, times=times, seconds=seconds, method="POST", path="/v1/transfers", **match
        )

    async def hanging(self, fault_id: int) -> bool:
        return any(fault["id"] == fault_id and fault["waiting"] for fault in await self.control.faults())

    async def fund(self, cents: int) -> None:
        """What the platform has at the provider, of which no event tells."""
        await self.control.call("POST", "balance", {"currency": "eur", "available": cents, "event": False})

    # -- the database, from outside ------------------------------------------------------------------------------------

    @contextmanager
    def locking(self) -> Iterator[psycopg.Connection[tuple[Any, ...]]]:
        """A session whose locks last until the block is left."""
        with psycopg.connect(self.dsn) as connection:
            yield connection
            connection.rollback()

    @contextmanager
    def gate(self, when: str, *events: str) -> Iterator[None]:
        """Holds up, until the block is left, whoever does such a thing, say ``INSERT ON entries``: ``IMMEDIATE`` once
        their statement is through and before they can commit, ``DEFERRED`` in their COMMIT.
        """
        self.outside.execute("DROP FUNCTION IF EXISTS gate() CASCADE")  # the one before
        self.outside.execute(GATE.encode())
        for event in events:
            self.outside.execute(POST.format(event=event, when=when).encode())
        self.outside.execute("SELECT pg_advisory_lock(1)")
        try:
            yield
        finally:
            self.outside.execute("SELECT pg_advisory_unlock(1)")

    async def blocked(self, sessions: int = 1) -> bool:
        """Whether so many statements of Veza's wait for a lock."""
        return len(self._sessions("wait_event_type = 'Lock'")) >= sessions

    async def claiming_for(self, seconds: float) -> bool:
        """Whether a transaction of Veza's has been open that long."""
        return bool(self._sessions(f"xact_start < now() - interval '{seconds} seconds'"))

    async def quiet(self) -> bool:
        """Whether nothing that was sent to the server is still under way there, whoever sent it."""
        return not self._sessions("state <> 'idle'")

    def _sessions(self, condition: str) -> list[tuple[Any, ...]]:
        sql = (
            "SELECT pid FROM pg_stat_activity"  # noqa: S608 - the conditions are those above
            f" WHERE datname = current_database() AND application_name = 'veza' AND {condition}"
        )
        return self.outside.execute(sql.encode()).fetchall()

    # -- the proof -----------------------------------------------------------------------------------------------------

    async def assert_paid_once(self, *transfers: UUID) -> None:
        """Each is completed, made once at the provider and booked once; nothing else was sent; all balances agree."""
        paid: dict[str, int] = {}
        for transfer_id in transfers:
            transfer = await self.transfer(transfer_id)
            (made,) = await self.at_provider(transfer_id)
            assert transfer.status is TransferStatus.COMPLETED
            assert (made["id"], made["amount"]) == (transfer.external_ref, transfer.amount_cents)
            assert await self._journals(transfer) == 1
            paid[made["destination"]] = paid.get(made["destination"], 0) + transfer.amount_cents
        for account, cents in paid.items():
            assert await self._owed(account) == 0
            assert (await self.stripe.balance(account)).available == cents
        everything = await self.http.get("/v1/transfers", params={"limit": 100})
        assert everything.json()["has_more"] or len(everything.json()["data"]) == len(transfers)
        await self.assert_verified()

    async def assert_unpaid(self, transfer_id: UUID) -> None:
        assert await self.at_provider(transfer_id) == []
        await self.assert_verified()

    async def assert_verified(self) -> None:
        """The seven invariants hold, the provider asked."""
        assert await Ledger(self.db).verify(self.stripe) == []

    async def _journals(self, transfer: Transfer) -> int:
        """How often it was booked."""
        sql = "SELECT count(*) FROM journals WHERE kind = 'transfer' AND order_id = $1"
        number: int = await self.db.fetchval(sql, transfer.order_id)
        return number

    async def _owed(self, account: str) -> int:
        sql = """
            SELECT coalesce(-sum(amount_cents), 0)::bigint FROM entries
            JOIN ledger_accounts ON ledger_accounts.id = entries.account_id
            JOIN connect_accounts ON connect_accounts.user_id = owner WHERE connect_accounts.account_id = $1
        """
        cents: int = await self.db.fetchval(sql, account)
        return cents

    # -- whole processes -----------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def serving(self, **patience: float) -> AsyncIterator[Program]:
        """A `veza serve` of its own; it may still be starting. Killed at the end, if it is still there."""
        async with program(*veza("serve"), environment=self.environment(**patience), cwd=self.directory) as started:
            yield started

    def environment(self, **patience: float) -> dict[str, str]:
        port = str(free_port())
        chosen = {name.upper(): f"{value:g}" for name, value in (PATIENCE | patience).items()}
        return clean_environment() | chosen | {
            "DATABASE_URL": self.dsn,
            "PORT": port,
            "VEZA_DATA_DIR": str(self.directory / "var"),
            "JWT_SECRET": "jwt-of-the-tests-" + "j" * 20,
            "LOG_FORMAT": "json",
            "STRIPE_API_BASE": self.sandbox.stripe_url,
            "STRIPE_SECRET_KEY": self.sandbox.config.stripe_secret_key,
            "STRIPE_WEBHOOK_SECRET": self.sandbox.config.stripe_webhook_secret,
        }  # fmt: skip


async def until(condition: Callable[[], Awaitable[object]]) -> None:
    """Wait for what happens in another process, which nothing here can be woken by. ``fail_after`` bounds the wait."""
    while not await condition():  # noqa: ASYNC110 - it happens in another process
        await trio.sleep(POLL_SECONDS)


async def brought_about(by: Program, reached: Callable[[], Awaitable[object]]) -> None:
    """Wait until a process has brought something about; fails with what it said if it ends instead."""

    async def complain() -> None:
        status = await by.process.wait()
        raise AssertionError(f"it ended with {status}: " + "\n".join(by.lines[-40:]))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(complain)
        await reached()
        nursery.cancel_scope.cancel()


@dataclass(frozen=True)
class Worker:
    """The composed house in this process, its actors running; nothing listens."""

    stage: Stage
    home: House

    @property
    def ref(self) -> payouts.PayoutsRef:
        return self.home.parts.refs.payouts

    async def retry(self, transfer_id: UUID) -> Transfer:
        """As an admin."""
        with trio.fail_after(10):  # an ask has a deadline; the loop around the database hides the test's own
            return await payouts.retry(self.ref, transfer_id, By(None))

    async def hurry(self) -> None:
        await self.stage.hurry()
        queue.ring(self.ref)

    async def until(self, transfer_id: UUID, *wanted: TransferStatus, hurry: bool = True) -> Transfer:
        """The transfer as soon as it has come to one of ``wanted``; with ``hurry``, no try is waited for."""
        while True:
            transfer = await self.stage.transfer(transfer_id)
            if transfer.status in wanted and (not hurry or transfer.next_retry_at is None):
                return transfer
            if hurry:
                await self.hurry()
            await trio.sleep(POLL_SECONDS)


@asynccontextmanager
async def open_stage(dsn: str, db: Database, directory: Path) -> AsyncIterator[Stage]:
    """Over a database, with providers of its own that keep what they know under ``directory``."""
    async with running_sandbox(directory / "sandbox") as sandbox:
        key, url = sandbox.config.stripe_secret_key, sandbox.stripe_url
        async with (
            Stripe.open(key, base=url, timeout=CALL_SECONDS, currency="EUR") as stripe,
            httpx.AsyncClient(
                base_url=url, headers={"Authorization": f"Bearer {key}"}, verify=NO_CERTIFICATES, timeout=CALL_SECONDS
            ) as http,
        ):
            with psycopg.connect(dsn, autocommit=True) as outside:
                yield Stage(dsn, db, sandbox, stripe, Sales(db), http, outside, directory)


@asynccontextmanager
async def working(stage: Stage, **patience: float) -> AsyncIterator[Worker]:
    """Veza without its listener, over the stage's database and provider."""
    values: dict[str, Any] = {
        "_env_file": None,
        "veza_data_dir": stage.directory / "var",
        "jwt_secret": SecretStr("jwt-of-the-tests-" + "j" * 20),
        "stripe_api_base": stage.sandbox.stripe_url,
        "stripe_secret_key": SecretStr(stage.sandbox.config.stripe_secret_key),
        **PATIENCE,
        **patience,
    }
    async with house(Settings(**values), stage.dsn) as home, trio.open_nursery() as nursery:
        await nursery.start(home.run_tree)
        yield Worker(stage, home)
        stop(home.tree)
