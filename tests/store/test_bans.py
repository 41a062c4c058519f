"""Bans on a real database: what follows from one in the same transaction, and what reads it by the clock."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
import trio

from tests.people import People, until_blocked
from tests.sales import Sales
from tests.store.conftest import Onlooker
from tests.store.selling import Market
from veza.domain.accounts import Credentials, Role, Session, SessionEnd, User
from veza.domain.audit import By
from veza.domain.bans import Banned, Standing
from veza.domain.catalog import Listing, ProductFile, is_open_to
from veza.domain.errors import Conflict, Invalid, NotFound, Unauthenticated
from veza.domain.payments import OrderStatus
from veza.domain.payouts import HoldReason, TransferStatus
from veza.domain.streams import StreamListing, draft
from veza.store.accounts import Accounts, Wanted
from veza.store.bans import Bans
from veza.store.bridge import Database
from veza.store.catalog import Catalog
from veza.store.notifications import Notifications
from veza.store.payouts import Moved, Payouts
from veza.store.sessions import Sessions
from veza.store.streams import Streams

LEASE = timedelta(seconds=300)
HOUR = timedelta(hours=1)
HELD, PENDING = TransferStatus.HELD, TransferStatus.PENDING


@dataclass
class Court:
    db: Database
    people: People
    accounts: Accounts
    bans: Bans
    sales: Sales
    payouts: Payouts

    async def sign_up(self, name: str, *, role: Role = Role.USER) -> tuple[User, Session]:
        self.people.clock.move(timedelta(seconds=1))
        user = self.people.user(name, role=role)
        session = self.people.session(user.id)
        await self.accounts.register(user, "a hash", session)
        return user, session

    async def ban(
        self, user_id: UUID, *, by: UUID | None = None, until: datetime | None = None, reason: str = ""
    ) -> Standing:
        return await self.bans.ban(user_id, until, reason, by=By(by), now=self.people.clock())

    async def lift(self, user_id: UUID) -> Standing:
        return await self.bans.lift(user_id, by=By(None))

    async def end(self, user_id: UUID) -> None:
        """The time of the ban is over."""
        async with self.db.transaction() as tx:
            await tx.execute("UPDATE users SET banned_until = now() - interval '1 second' WHERE id = $1", user_id)

    async def due(self) -> tuple[UUID, UUID]:
        seller = await self.sales.seller(f"acct_{self.sales.new_id().hex}")
        return seller, await self.sales.sale(seller)

    async def standing(self, transfer_id: UUID) -> tuple[TransferStatus, HoldReason | None, bool]:
        found = await self.payouts.get(transfer_id)
        return found.status, found.hold_reason, found.next_retry_at is not None

    async def audited(self, action: str) -> list[Any]:
        rows = await self.db.fetch(
            "SELECT actor_id, resource, details FROM audit_entries WHERE action = $1 ORDER BY at, id", action
        )
        return [(row["actor_id"], row["resource"], json.loads(row["details"])) for row in rows]


@pytest.fixture
async def court(db: Database) -> Court:
    people, sales = People(), Sales(db)
    return Court(db, people, Accounts(db), Bans(db, people.new_id), sales, Payouts(db, sales.new_id))


# -- the ban itself ----------------------------------------------------------------------------------------------------


async def test_a_ban_stands_ends_every_session_is_told_of_and_audited(court: Court) -> None:
    ann, session = await court.sign_up("ann")
    bob, other = await court.sign_up("bob")
    until = datetime.now(UTC).replace(microsecond=0) + HOUR
    stands = await court.ban(ann.id, by=bob.id, until=until, reason="Spam")
    assert stands.ban is not None
    assert (stands.ban.until, stands.ban.reason) == (until, "Spam")
    sessions, now = Sessions(court.db), court.people.clock()
    assert await sessions.user_of(session.id, ann.id, now) is None
    assert await sessions.user_of(other.id, bob.id, now) is not None
    [news], _ = await Notifications(court.db).page(ann.id, unread=None, limit=10, offset=0)
    assert (news.kind, news.data["reason"]) == ("account_banned", "Spam")
    [(actor, resource, details)] = await court.audited("user.ban")
    assert (actor, resource) == (bob.id, f"users/{ann.id}")
    assert (details["reason"], details["sessions_ended"], details["transfers_held"]) == ("Spam", 1, 0)


async def test_another_ban_takes_the_place_of_the_first(court: Court) -> None:
    ann, _ = await court.sign_up("ann")
    await court.ban(ann.id, until=datetime.now(UTC) + HOUR, reason="Spam")
    stands = await court.ban(ann.id, reason="More spam")
    assert stands.ban is not None
    assert (stands.ban.until, stands.ban.reason) == (None, "More spam")
    assert len(await court.audited("user.ban")) == 2


async def test_a_ban_that_would_be_over_and_one_of_nobody_change_nothing(court: Court) -> None:
    ann, _ = await court.sign_up("ann")
    with pytest.raises(Invalid):
        await court.ban(ann.id, until=court.people.clock())
    with pytest.raises(NotFound):
        await court.ban(UUID(int=9))
    assert await court.audited("user.ban") == []
    assert await court.db.fetchval("SELECT count(*) FROM users WHERE banned_until IS NOT NULL") == 0


async def test_a_lifted_ban_is_told_of_and_audited_and_there_is_none_to_lift_twice(court: Court) -> None:
    ann, _ = await court.sign_up("ann")
    await court.ban(ann.id, reason="Spam")
    assert (await court.lift(ann.id)).ban is None
    with pytest.raises(Conflict) as refused:
        await court.lift(ann.id)
    assert refused.value.code == "not_banned"
    news, _ = await Notifications(court.db).page(ann.id, unread=None, limit=10, offset=0)
    assert [each.kind for each in news] == ["ban_lifted", "account_banned"]
    assert len(await court.audited("user.unban")) == 1


async def test_what_was_answered_survives_and_what_fails_midway_leaves_nothing(court: Court) -> None:
    """The audit's row is the last but one thing written: without it there is no ban."""
    ann, session = await court.sign_up("ann")
    async with court.db.transaction() as tx:
        await tx.execute("ALTER TABLE audit_entries ADD CHECK (action <> 'user.ban')")
    with pytest.raises(Exception, match="check constraint"):
        await court.ban(ann.id)
    assert await Sessions(court.db).user_of(session.id, ann.id, court.people.clock()) is not None


# -- signing in --------------------------------------------------------------------------------------------------------


async def test_who_is_banned_opens_no_session_and_changes_no_password(court: Court) -> None:
    ann, session = await court.sign_up("ann")
    verified = Credentials(ann, "a hash")
    await court.ban(ann.id, reason="Spam")
    with pytest.raises(Banned, match="Spam"):
        await court.accounts.sign_in(verified, court.people.session(ann.id))
    with pytest.raises(Banned):
        await court.accounts.change_password(verified, "another", keep=session.id, now=court.people.clock())
    await court.end(ann.id)
    assert await court.accounts.sign_in(verified, court.people.session(ann.id))


async def test_a_sign_in_that_comes_with_the_ban_is_ended_or_refused(court: Court) -> None:
    ann, _ = await court.sign_up("ann")
    refused = []

    async def sign_in() -> None:
        try:
            await court.accounts.sign_in(Credentials(ann, "a hash"), court.people.session(ann.id))
        except Banned as banned:
            refused.append(banned)

    with trio.fail_after(10):
        async with trio.open_nursery() as nursery, court.db.transaction() as tx:
            await tx.execute("UPDATE users SET banned_until = 'infinity' WHERE id = $1", ann.id)
            nursery.start_soon(sign_in)
            await until_blocked(court.db)
    assert len(refused) == 1


async def test_only_the_good_refresh_token_of_a_session_the_ban_ended_is_told_so(court: Court) -> None:
    ann, session = await court.sign_up("ann")
    gone = court.people.session(ann.id)
    await court.accounts.sign_in(Credentials(ann, "a hash"), gone)
    sessions, now = Sessions(court.db), court.people.clock()
    await sessions.end(ann.id, SessionEnd.LOGOUT, now, only=gone.id)
    await court.ban(ann.id, reason="Spam")

    async def refresh(which: Session, token: UUID) -> object:
        return await sessions.refresh(which.id, ann.id, token, new_id=court.people.new_id, now=now, grace=timedelta(0))

    with pytest.raises(Banned, match="Spam"):
        await refresh(session, session.refresh_id)
    assert str(await refresh(session, UUID(int=4))) == "Refresh.OVER"
    assert str(await refresh(gone, gone.refresh_id)) == "Refresh.OVER"
    await court.lift(ann.id)
    assert str(await refresh(session, session.refresh_id)) == "Refresh.OVER"


async def test_what_was_under_way_adds_nothing_in_the_name_of_who_was_banned_meanwhile(court: Court) -> None:
    ann, _ = await court.sign_up("ann")
    streams, stream = Streams(court.db), draft(ann, id=UUID(int=5), now=court.people.clock())
    await court.ban(ann.id)
    with pytest.raises(Unauthenticated):
        await streams.newest_or(stream)
    await court.lift(ann.id)
    assert await streams.newest_or(stream) == stream


async def test_a_file_that_was_on_its_way_is_not_added_to_what_a_banned_seller_sold(court: Court) -> None:
    market = Market.over(court.db)
    seller = await market.user()
    product = await market.product(seller)
    file = ProductFile(market.new_id(), product, "1" * 64, "late.wav", "audio/wav", 4, court.people.clock())
    await court.ban(seller)
    with pytest.raises(Unauthenticated):
        await Catalog(court.db).add_file(file, lambda product: None)
    await court.lift(seller)
    await Catalog(court.db).add_file(file, lambda product: None)


# -- admins ------------------------------------------------------------------------------------------------------------


async def test_a_role_is_changed_audited_and_the_same_again_changes_nothing(court: Court) -> None:
    root, _ = await court.sign_up("root", role=Role.ADMIN)
    ann, session = await court.sign_up("ann")
    assert (await set_role(court, ann, Role.ADMIN, by=root)).user.role is Role.ADMIN
    await set_role(court, ann, Role.ADMIN, by=root)
    seen = await Sessions(court.db).user_of(session.id, ann.id, court.people.clock())
    assert seen is not None
    assert seen.role is Role.ADMIN
    await set_role(court, ann, Role.USER, by=root)
    assert await court.audited("user.role") == [
        (root.id, f"users/{ann.id}", {"from": "user", "to": "admin"}),
        (root.id, f"users/{ann.id}", {"from": "admin", "to": "user"}),
    ]


async def set_role(court: Court, user: User, role: Role, *, by: User) -> Standing:
    return await court.accounts.set_role(
        user.id, role, by=By(by.id), new_id=court.people.new_id, now=court.people.clock()
    )


async def test_nobody_demotes_or_bans_themself_or_the_last_admin(court: Court) -> None:
    root, _ = await court.sign_up("root", role=Role.ADMIN)
    ann, _ = await court.sign_up("ann", role=Role.ADMIN)
    codes = []
    for attempt in (set_role(court, root, Role.USER, by=root), court.ban(root.id, by=root.id)):
        with pytest.raises(Conflict) as refused:
            await attempt
        codes.append(refused.value.code)
    await court.ban(ann.id, by=root.id)  # who is banned is no admin meanwhile
    for attempt in (set_role(court, root, Role.USER, by=ann), court.ban(root.id, by=ann.id), court.ban(root.id)):
        with pytest.raises(Conflict) as refused:
            await attempt
        codes.append(refused.value.code)
    assert codes == ["own_account"] * 2 + ["last_admin"] * 3
    await set_role(court, ann, Role.USER, by=root)  # a banned one may be demoted: root is left


@pytest.mark.parametrize("how", ["demote", "ban", "one of each"])
async def test_two_admins_who_put_each_other_out_leave_one(court: Court, how: str) -> None:
    one, _ = await court.sign_up("one", role=Role.ADMIN)
    two, _ = await court.sign_up("two", role=Role.ADMIN)
    refused = []

    async def put_out(whom: User, by: User, ban: bool) -> None:
        try:
            if ban:
                await court.ban(whom.id, by=by.id)
            else:
                await set_role(court, whom, Role.USER, by=by)
        except Conflict as conflict:
            refused.append(conflict.code)

    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(put_out, one, two, how == "ban")
            nursery.start_soon(put_out, two, one, how != "demote")
    assert refused == ["last_admin"]
    left = "SELECT count(*) FROM users WHERE role = 'admin' AND banned_until IS NULL"
    assert await court.db.fetchval(left) == 1


# -- the list ----------------------------------------------------------------------------------------------------------


async def names(court: Court, limit: int = 10, offset: int = 0, **wanted: Any) -> tuple[list[str], int]:
    found, total = await court.accounts.page(Wanted(**wanted), limit=limit, offset=offset)
    return [each.user.username for each in found], total


async def test_accounts_are_found_by_name_address_id_role_and_ban(court: Court) -> None:
    users = {name: (await court.sign_up(name))[0] for name in ("Ann_1", "anna2", "bob")}
    root, _ = await court.sign_up("root", role=Role.ADMIN)
    await court.ban(users["bob"].id)
    await court.ban(users["anna2"].id)
    await court.end(users["anna2"].id)
    assert await names(court) == (["root", "bob", "anna2", "Ann_1"], 4)
    assert await names(court, limit=2, offset=1) == (["bob", "anna2"], 4)
    assert await names(court, search="ANN") == (["anna2", "Ann_1"], 2)
    assert await names(court, search="n_1") == (["Ann_1"], 1)
    assert await names(court, search="%") == ([], 0)
    assert await names(court, search="BOB@example") == (["bob"], 1)
    assert await names(court, search=str(root.id)) == (["root"], 1)
    assert await names(court, role=Role.ADMIN) == (["root"], 1)
    assert await names(court, banned=True) == (["bob"], 1)
    assert await names(court, banned=False, search="an") == (["anna2", "Ann_1"], 2)
    async with court.db.transaction() as tx:
        await tx.execute("UPDATE users SET erased_at = now() WHERE id = $1", users["bob"].id)
    assert await names(court, search="bob") == ([], 0)
    with pytest.raises(NotFound):
        await court.lift(users["bob"].id)


# -- what they sell and show -------------------------------------------------------------------------------------------


async def test_what_a_banned_seller_sells_is_not_listed_or_sold_and_is_again_when_the_ban_is_over(court: Court) -> None:
    market, catalog = Market.over(court.db), Catalog(court.db)
    seller, buyer = await market.seller(), await market.user()
    product, other = await market.product(seller), await market.product(await market.seller())
    bought = await market.place(buyer, product)
    await market.settle(bought)
    late = await market.place(buyer, product)
    await market.run("UPDATE products SET words = array_to_tsvector('{track}')")
    await court.ban(seller)
    for listing in (Listing(), Listing(search="track"), Listing(max_price=9999)):
        page = await catalog.page(listing, limit=20)
        assert ([each.id for each in page.products], page.total) == ([other], 1), listing
    assert (await catalog.page(Listing(seller_id=seller), limit=20)).total == 0
    assert (await catalog.page(Listing(seller_id=seller, status=None), limit=20)).total == 1
    hidden = await catalog.get(product)
    assert not is_open_to(hidden, None)
    assert is_open_to(hidden, None, bought=True) is False
    with pytest.raises(Conflict):
        await market.place(buyer, product)
    await market.settle(late)  # whoever had ordered it by then may pay for it
    assert await market.status(late) == OrderStatus.PAID
    await court.end(seller)
    assert (await catalog.page(Listing(), limit=20)).total == 2
    await market.place(buyer, product)


async def test_a_payment_that_comes_too_late_for_what_a_banned_seller_sold_goes_back(court: Court) -> None:
    market = Market.over(court.db)
    seller, buyer = await market.seller(), await market.user()
    order = await market.place(buyer, await market.product(seller))
    await market.run("UPDATE orders SET status = 'expired' WHERE id = $1", order.id)
    await court.ban(seller)
    recorded = await market.settle(order)
    assert recorded.given_back is not None


async def test_streams_of_who_is_banned_are_in_no_list(court: Court) -> None:
    ann, _ = await court.sign_up("ann")
    streams = Streams(court.db)
    show = replace(draft(ann, id=UUID(int=5), now=court.people.clock()), title="A show")
    await streams.add(show)
    await court.ban(ann.id)
    assert await streams.page(StreamListing(), [], limit=20) == ([], 0)
    assert await streams.page(StreamListing(is_live=True), [show.id], limit=20) == ([], 0)
    assert (await streams.get(show.id)).owner_banned
    await court.lift(ann.id)
    assert (await streams.page(StreamListing(), [], limit=20))[1] == 1


# -- what they are paid ------------------------------------------------------------------------------------------------


async def test_what_waits_for_a_banned_seller_is_held_and_goes_on_when_it_is_lifted(court: Court) -> None:
    seller, transfer = await court.due()
    later = await court.sales.sale(seller)
    await court.sales.change(later, "next_retry_at = now() + interval '7 days'")
    _, anothers = await court.due()
    await court.ban(seller)
    for held in (transfer, later):
        assert await court.standing(held) == (HELD, HoldReason.BANNED, False)
    claimed = await court.payouts.claim(10, LEASE, retries=True)
    assert [each.transfer.id for each in claimed] == [anothers]
    await court.lift(seller)
    for released in (transfer, later):
        assert await court.standing(released) == (PENDING, None, True)
    assert len(await court.payouts.claim(10, LEASE, retries=True)) == 2


async def test_a_ban_that_is_over_by_time_releases_what_it_held(court: Court) -> None:
    seller, transfer = await court.due()
    await court.ban(seller, until=datetime.now(UTC) + HOUR)
    assert await court.payouts.heed_bans(10) == Moved()
    await court.end(seller)
    assert await court.payouts.heed_bans(10) == Moved(0, 1)
    assert await court.standing(transfer) == (PENDING, None, True)
    assert await court.payouts.heed_bans(10) == Moved()


@pytest.mark.parametrize(
    "what",
    [
        "status = 'failed', next_retry_at = NULL",
        "status = 'held', hold_reason = 'admin', next_retry_at = NULL",
        "status = 'held', hold_reason = 'not_onboarded', next_retry_at = NULL",
        "status = 'held', hold_reason = 'flag', next_retry_at = NULL",
        "status = 'held', hold_reason = 'disputed', disputed = true, next_retry_at = NULL",
    ],
)
async def test_what_is_held_for_another_reason_is_held_and_released_by_that_alone(court: Court, what: str) -> None:
    seller, transfer = await court.due()
    await court.sales.change(transfer, what)
    before = await court.payouts.get(transfer)
    await court.ban(seller)
    assert await court.payouts.heed_bans(10) == Moved()
    assert await court.payouts.get(transfer) == before
    await court.lift(seller)
    assert await court.payouts.get(transfer) == before


@pytest.mark.parametrize("delay", [timedelta(0), timedelta(days=7)])
async def test_what_another_cause_releases_meanwhile_is_not_paid_but_held_for_the_ban(
    court: Court, delay: timedelta
) -> None:
    seller = await court.sales.seller("acct_1")
    transfer = await court.sales.sale(seller, held="not_onboarded")
    await court.ban(seller)
    assert await Payouts(court.db, court.sales.new_id, delay).release_onboarded() == 1
    assert await court.payouts.claim(10, LEASE, retries=True) == []
    assert await court.payouts.next_due_in(retries=True) is None
    assert await court.payouts.heed_bans(10) == Moved(1, 0)
    assert await court.standing(transfer) == (HELD, HoldReason.BANNED, False)


async def test_what_was_in_hand_when_its_worker_died_is_held_and_asked_for_again_under_its_key(court: Court) -> None:
    seller, transfer = await court.due()
    [claim] = await court.payouts.claim(1, timedelta(0), retries=True)
    await court.ban(seller)
    assert await court.payouts.claim(10, LEASE, retries=True) == []
    await court.payouts.heed_bans(10)
    assert await court.standing(transfer) == (HELD, HoldReason.BANNED, False)
    await court.lift(seller)
    [again] = await court.payouts.claim(10, LEASE, retries=True)
    assert again.transfer.idempotency_key == claim.transfer.idempotency_key
    assert not again.fresh_key


async def test_an_admin_neither_retries_nor_releases_it_but_may_keep_it_for_longer(court: Court) -> None:
    seller, transfer = await court.due()
    dead = await court.sales.sale(seller)
    await court.sales.change(dead, "status = 'failed', next_retry_at = NULL")
    await court.ban(seller)
    for each in (transfer, dead):
        assert isinstance(await court.payouts.claim_one(each, LEASE, By(None)), Conflict)
    with pytest.raises(Conflict):
        await court.payouts.let_go(transfer, By(None))
    await court.payouts.hold(transfer, By(None), "for longer")
    await court.payouts.let_go(transfer, By(None))
    assert await court.standing(transfer) == (HELD, HoldReason.BANNED, False)
    await court.payouts.hold(transfer, By(None), "for longer")
    await court.lift(seller)
    assert await court.standing(transfer) == (HELD, HoldReason.ADMIN, False)


@pytest.mark.parametrize(
    ("meanwhile", "reason"), [("disputed = true", HoldReason.DISPUTED), (None, HoldReason.NOT_ONBOARDED)]
)
async def test_what_has_another_cause_to_be_held_by_then_is_held_for_that(
    court: Court, meanwhile: str | None, reason: HoldReason
) -> None:
    seller, transfer = await court.due()
    await court.ban(seller)
    if meanwhile is not None:
        await court.sales.change(transfer, meanwhile)
    else:
        async with court.db.transaction() as tx:
            await tx.execute("UPDATE connect_accounts SET transfers_active = false WHERE user_id = $1", seller)
    await court.lift(seller)
    assert await court.standing(transfer) == (HELD, reason, False)


async def test_a_transfer_that_somebody_else_has_locked_does_not_hold_up_the_ban(
    court: Court, onlooker: Onlooker
) -> None:
    seller, transfer = await court.due()
    with trio.fail_after(10):
        with onlooker.connection.transaction():
            onlooker.ask("SELECT id FROM transfers WHERE id = %s FOR UPDATE", transfer)
            await court.ban(seller)
        assert await court.payouts.claim(10, LEASE, retries=True) == []
        assert await court.payouts.heed_bans(10) == Moved(1, 0)
