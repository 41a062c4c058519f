"""kill -9 of the whole process while an admin's forms are at work: each is done with its entry in the audit, or not.

All are sent at once, and held up where their entries are written, or in their COMMIT.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from functools import partial
from random import Random
from uuid import UUID

import httpx
import pytest
import trio

from tests.faults.stage import Stage, brought_about, until
from tests.processes import Program, answering, program, veza
from veza.domain.accounts import begin_session
from veza.domain.ids import IdMint, utc_now
from veza.domain.payouts import HoldReason, TransferStatus
from veza.http.console.entry import COOKIE
from veza.http.tokens import Tokens
from veza.store.sessions import open_session

pytestmark = pytest.mark.slow

MESSAGE = "Back at noon."


@dataclass
class Operator:
    """An admin who is signed in, and what they are about to do to whom."""

    stage: Stage
    dead: UUID
    waiting: UUID
    held: UUID
    banned: UUID
    report: UUID
    id: UUID
    headers: dict[str, str]
    key: str

    @property
    def forms(self) -> dict[str, tuple[str, dict[str, str]]]:
        """By the entry that each makes."""
        return {
            "transfer.retry": (f"payouts/{self.dead}/retry", {}),
            "transfer.hold": (f"payouts/{self.waiting}/hold", {"reason": "A test."}),
            "transfer.release": (f"payouts/{self.held}/release", {}),
            "report.resolve": (f"moderation/{self.report}", {"action": "ban", "reason": "A test."}),
            "flag.switch": ("switches/flags/cloud.uploads", {"enabled": "off"}),
            "maintenance.switch": ("switches/maintenance", {"enabled": "off", "message": MESSAGE}),
        }

    async def send(self, url: str, action: str) -> None:
        path, form = self.forms[action]
        async with httpx.AsyncClient(timeout=30) as client:
            try:
                await client.post(f"{url}/console/{path}", data=form | {"key": self.key}, headers=self.headers)
            except httpx.TransportError:
                return  # it was killed

    async def retry(self, url: str) -> None:
        await self.send(url, "transfer.retry")

    async def written(self) -> set[str]:
        """What the audit says that they did."""
        sql = "SELECT action FROM audit_entries WHERE actor_id = $1 AND method IS NULL"
        return {row["action"] for row in await self.stage.db.fetch(sql, self.id)}

    async def done(self) -> set[str]:
        """What was done, as its own rows say."""
        dead, waiting, held = [await self.stage.transfer(each) for each in (self.dead, self.waiting, self.held)]
        ask = self.stage.db.fetchval
        found = {
            "transfer.retry": dead.status is not TransferStatus.FAILED,
            "transfer.hold": waiting.hold_reason is HoldReason.ADMIN,
            "transfer.release": held.hold_reason is not HoldReason.ADMIN,
            "report.resolve": await ask("SELECT status <> 'pending' FROM reports WHERE id = $1", self.report),
            "user.ban": await ask("SELECT banned_at IS NOT NULL FROM users WHERE id = $1", self.banned),
            "flag.switch": await ask("SELECT EXISTS (SELECT FROM feature_flags WHERE NOT enabled)"),
            "maintenance.switch": await ask("SELECT message IS NOT NULL FROM maintenance"),
        }
        assert (
            await ask("SELECT ended_at IS NOT NULL FROM sessions WHERE user_id = $1", self.banned) == found["user.ban"]
        )
        return {action for action, there in found.items() if there}


async def operator(stage: Stage, secret: str) -> Operator:
    new_id, sales = IdMint(utc_now, Random(9)), stage.sales
    admin, reporter, banned = [await sales.user() for _ in range(3)]
    dead = await stage.due()
    await sales.change(dead, "status = 'failed', next_retry_at = NULL, failure_code = 'account_invalid'")
    waiting, held = [await sales.sale(await sales.user(), held=why) for why in ("not_onboarded", "admin")]
    session, theirs, report = (
        begin_session(admin, new_id, utc_now()),
        begin_session(banned, new_id, utc_now()),
        new_id(),
    )
    async with stage.db.transaction() as tx:
        await tx.execute("UPDATE users SET role = 'admin' WHERE id = $1", admin)
        await open_session(tx, session)
        await open_session(tx, theirs)
        await tx.execute(
            "INSERT INTO reports (id, reporter_id, subject, content_type, content_id, owner_id, reason)"
            " VALUES ($1, $2, 'user', 'user', $3, $3, 'A test.')",
            report,
            reporter,
            banned,
        )
    tokens = Tokens(secret.encode(), utc_now, new_id)
    cookie = {"Cookie": f"{COOKIE}={tokens.console(session)}"}
    return Operator(stage, dead, waiting, held, banned, report, admin, cookie, tokens.form_key(session.id))


def served(stage: Stage, environment: dict[str, str]) -> AbstractAsyncContextManager[Program]:
    return program(*veza("serve"), environment=environment, cwd=stage.directory)


async def address(started: Program, environment: dict[str, str]) -> str:
    url = f"http://127.0.0.1:{environment['PORT']}"
    await answering(f"{url}/healthz", started)
    return url


@pytest.mark.parametrize("when", ["IMMEDIATE", "DEFERRED"])
async def test_what_a_form_does_and_its_entry_in_the_audit_come_through_a_kill_together_or_not_at_all(
    stage: Stage, when: str
) -> None:
    environment = stage.environment()
    with trio.fail_after(120):
        admin = await operator(stage, environment["JWT_SECRET"])
        async with served(stage, environment) as first, trio.open_nursery() as nursery:
            url = await address(first, environment)
            with stage.gate(when, f"INSERT ON audit_entries_{utc_now():%Y_%m}"):
                for action in admin.forms:
                    nursery.start_soon(admin.send, url, action)
                await brought_about(first, partial(until, partial(stage.blocked, len(admin.forms))))
                await first.kill()
        await until(stage.quiet)
        done = await admin.done()
        assert done == await admin.written()
        assert when == "DEFERRED" or not done
        await stage.let_claims_lapse()
        async with served(stage, environment) as second:
            if "transfer.retry" not in done:
                await admin.retry(await address(second, environment))
            await brought_about(second, partial(until, partial(stage.completed, admin.dead)))
        await stage.assert_paid_once(admin.dead)
