"""Reports on a real database: one of each by each, decided once, with all that follows or nothing."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import product
from typing import Any
from uuid import UUID

import pytest
import trio

from tests.people import NOON, People, until_blocked
from tests.store.leaving import Leaver
from tests.store.selling import Market
from veza.domain.accounts import Role, User
from veza.domain.audit import By
from veza.domain.errors import Conflict, Invalid, NotFound, Unauthenticated
from veza.domain.notifications import Notification
from veza.domain.reports import Action, ContentType, Report, ReportStatus, Subject
from veza.domain.streams import draft
from veza.store.accounts import Accounts
from veza.store.bans import Bans
from veza.store.bridge import Database
from veza.store.notifications import Notifications
from veza.store.reports import Reports, Seen, Wanted
from veza.store.streams import Streams


@dataclass
class Court:
    db: Database
    people: People
    reports: Reports
    ann: User
    bob: User
    root: User

    async def sign_up(self, name: str, role: Role = Role.USER) -> User:
        user = self.people.user(name, role=role)
        await Accounts(self.db).register(user, "a hash", self.people.session(user.id))
        return user

    def about(
        self,
        owner: User,
        *,
        by: User | None = None,
        content_type: ContentType = ContentType.USER,
        content_id: UUID | None = None,
        reason: str = "Spam.",
    ) -> Report:
        self.people.clock.move(timedelta(seconds=1))
        return Report(
            id=self.people.new_id(),
            reporter_id=(by or self.ann).id,
            content_type=content_type,
            content_id=content_id or owner.id,
            owner_id=owner.id,
            reason=reason,
            created_at=self.people.clock(),
        )

    async def report(self, *args: Any, **more: Any) -> Report:
        made, first = await self.reports.add(self.about(*args, **more))
        assert first
        return made

    async def decide(
        self, report: Report, action: Action, note: str = "", *, until: datetime | None = None, by: User | None = None
    ) -> Seen:
        who = By((by or self.root).id, "req-1")
        return await self.reports.decide(report.id, action, note, until, by=who, now=self.people.clock())

    async def told(self, user: User) -> list[Notification]:
        found, _ = await Notifications(self.db).page(user.id, unread=None, limit=10, offset=0)
        return found

    async def audited(self) -> list[Any]:
        rows = await self.db.fetch("SELECT actor_id, action, resource, details FROM audit_entries ORDER BY at, id")
        return [(row["actor_id"], row["action"], row["resource"], json.loads(row["details"])) for row in rows]

    async def listed(self, **wanted: Any) -> tuple[list[UUID], int]:
        found, total, _ = await self.reports.page(Wanted(**wanted), limit=10, offset=0)
        return [each.report.id for each in found], total


@pytest.fixture
async def court(db: Database) -> Court:
    people = People()
    court = Court(db, people, Reports(db, people.new_id), *(people.user(name) for name in ("x", "y", "z")))
    court.ann, court.bob = await court.sign_up("ann"), await court.sign_up("bob")
    court.root = await court.sign_up("root", Role.ADMIN)
    return court


# -- making them -------------------------------------------------------------------------------------------------------


async def test_who_reports_it_again_gets_their_first_report_under_whatever_name(court: Court) -> None:
    track = UUID(int=7)
    first = await court.report(court.bob, content_type=ContentType.TRACK, content_id=track)
    again = court.about(court.bob, content_type=ContentType.PRODUCT, content_id=track, reason="Still.")
    assert await court.reports.add(again) == (first, False)
    await court.decide(first, Action.DISMISS)
    found, new = await court.reports.add(replace(again, id=UUID(int=70)))
    assert (found.id, found.status, new) == (first.id, ReportStatus.DISMISSED, False)
    await court.report(court.bob, by=court.root, content_type=ContentType.TRACK, content_id=track)


async def test_of_many_at_once_one_is_written_and_all_get_it(court: Court) -> None:
    answers: list[tuple[Report, bool]] = []

    async def add(report: Report) -> None:
        answers.append(await court.reports.add(report))

    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            for _ in range(8):
                nursery.start_soon(add, court.about(court.bob))
    assert sorted(first for _, first in answers) == [False] * 7 + [True]
    assert len({report.id for report, _ in answers}) == 1
    assert await court.db.fetchval("SELECT count(*) FROM reports") == 1


async def test_nobody_erased_reports_or_is_reported(court: Court) -> None:
    async with court.db.transaction() as tx:
        await tx.execute("UPDATE users SET erased_at = now() WHERE id = $1", court.bob.id)
    with pytest.raises(NotFound):
        await court.reports.add(court.about(court.bob))
    with pytest.raises(Unauthenticated):
        await court.reports.add(court.about(court.ann, by=court.bob))


# -- the queue ---------------------------------------------------------------------------------------------------------


async def test_what_waits_is_listed_the_oldest_first_and_counted_by_status_and_kind(court: Court) -> None:
    market = Market.over(court.db)
    track = await market.product(court.bob.id)
    one = await court.report(court.bob)
    two = await court.report(court.bob, content_type=ContentType.TRACK, content_id=track)
    three = await court.report(court.ann, by=court.bob)
    await court.decide(three, Action.RESOLVE)
    assert await court.listed(status=ReportStatus.PENDING) == ([one.id, two.id], 2)
    assert await court.listed(status=ReportStatus.RESOLVED) == ([three.id], 1)
    assert await court.listed() == ([three.id, two.id, one.id], 3)
    assert await court.listed(subject=Subject.PRODUCT) == ([two.id], 1)
    assert await court.listed(subject=Subject.REVIEW) == ([], 0)
    page, total, counts = await court.reports.page(Wanted(), limit=1, offset=1)
    assert ([each.report.id for each in page], total) == ([two.id], 3)
    assert {str(status): many for status, many in counts.items()} == {"pending": 2, "resolved": 1, "dismissed": 0}
    _, _, counts = await court.reports.page(Wanted(ReportStatus.RESOLVED, Subject.USER), limit=1, offset=0)
    assert counts[ReportStatus.PENDING] == 1


async def test_a_report_shows_how_what_it_is_about_reads_now_and_how_many_there_are_of_it(court: Court) -> None:
    market, streams = Market.over(court.db), Streams(court.db)
    track = await market.product(court.bob.id)
    show = replace(draft(court.bob, id=UUID(int=5), now=NOON), title="A show")
    await streams.add(show)
    order = await market.place(court.ann.id, track)
    await market.settle(order)
    review = UUID(int=6)
    await market.run(
        "INSERT INTO reviews (id, product_id, order_id, buyer_id, rating, comment) VALUES ($1, $2, $3, $4, 1, $5)",
        review,
        track,
        order.id,
        court.ann.id,
        "x" * 300,
    )
    await court.report(court.bob, by=court.root)
    for by in (court.ann, court.root):
        await court.report(court.bob, by=by, content_type=ContentType.TRACK, content_id=track)
    await court.report(court.bob, content_type=ContentType.STREAM, content_id=show.id)
    await court.report(court.ann, by=court.bob, content_type=ContentType.COMMENT, content_id=review)
    await court.report(court.bob, content_type=ContentType.TRACK, content_id=UUID(int=404))
    found, _, _ = await court.reports.page(Wanted(ReportStatus.PENDING), limit=10, offset=0)
    assert [(each.excerpt, each.reports_of_it) for each in found] == [
        ("bob", 1),
        ("A track", 2),
        ("A track", 2),
        ("A show", 1),
        ("x" * 200, 1),
        (None, 1),
    ]
    assert [(each.owner.username, each.reporter and each.reporter.username) for each in found[:2]] == [
        ("bob", "root"),
        ("bob", "ann"),
    ]


# -- deciding ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("action", "status"), [(Action.RESOLVE, ReportStatus.RESOLVED), (Action.DISMISS, ReportStatus.DISMISSED)]
)
async def test_what_is_resolved_or_dismissed_concerns_its_reporter_alone(
    court: Court, action: Action, status: ReportStatus
) -> None:
    report = await court.report(court.bob)
    decided = (await court.decide(report, action)).report
    assert (decided.status, decided.action, decided.decided_by) == (status, action, court.root.id)
    assert [each.kind for each in await court.told(court.ann)] == ["report_reviewed"]
    assert await court.told(court.bob) == []
    [(actor, what, resource, details)] = await court.audited()
    assert (actor, what, resource) == (court.root.id, "report.resolve", f"reports/{report.id}")
    assert (details["action"], details["owner_id"]) == (action, str(court.bob.id))


async def test_a_warning_is_told_to_whose_content_it_is_and_not_who_reported_it(court: Court) -> None:
    report = await court.report(court.bob, content_type=ContentType.TRACK, content_id=UUID(int=7))
    await court.decide(report, Action.WARN, "Not yours.")
    [news] = await court.told(court.bob)
    assert (news.kind, news.body, news.data["content_id"]) == ("account_warned", "Not yours.", str(UUID(int=7)))
    assert str(court.ann.id) not in repr(news)
    assert [each.kind for each in await court.told(court.ann)] == ["report_reviewed"]


async def test_a_ban_bans_whose_content_it_is_and_is_audited_as_one_too(court: Court) -> None:
    report = await court.report(court.bob)
    until = datetime.now(UTC) + timedelta(hours=1)
    await court.decide(report, Action.BAN, "Spam", until=until)
    [news] = await court.told(court.bob)
    assert (news.kind, news.body) == ("account_banned", "Spam")
    assert await court.db.fetchval("SELECT banned_until FROM users WHERE id = $1", court.bob.id) == until
    living = "SELECT count(*) FROM sessions WHERE user_id = $1 AND ended_at IS NULL"
    assert await court.db.fetchval(living, court.bob.id) == 0
    assert sorted(what for _, what, _, _ in await court.audited()) == ["report.resolve", "user.ban"]


async def test_a_ban_that_is_refused_decides_nothing(court: Court) -> None:
    report = await court.report(court.root)
    other = await court.report(court.bob)
    with pytest.raises(Conflict) as refused:
        await court.decide(report, Action.BAN, by=court.ann)  # who is no admin, so that the other is the last
    assert refused.value.code == "last_admin"
    with pytest.raises(Invalid):
        await court.decide(other, Action.BAN, until=court.people.clock() - timedelta(days=1))
    assert await court.listed(status=ReportStatus.PENDING) == ([report.id, other.id], 2)
    assert await court.audited() == []
    assert await court.told(court.ann) == []


async def test_a_report_about_an_admin_waits_until_another_decides_it(court: Court) -> None:
    reports = [
        await court.report(court.root),
        await court.report(court.root, content_type=ContentType.TRACK, content_id=UUID(int=7)),
    ]
    for report, action in product(reports, Action):
        with pytest.raises(Conflict) as refused:
            await court.decide(report, action)
        assert refused.value.code == "own_content"
    assert await court.listed(status=ReportStatus.PENDING) == ([report.id for report in reports], 2)
    assert (await court.audited(), await court.told(court.ann)) == ([], [])
    other = await court.sign_up("other", Role.ADMIN)
    for report in reports:
        assert (await court.decide(report, Action.DISMISS, by=other)).report.decided_by == other.id
    assert [actor for actor, *_ in await court.audited()] == [other.id] * 2


async def test_of_two_who_decide_at_once_one_does(court: Court) -> None:
    report = await court.report(court.bob)
    refused = []

    async def decide(action: Action) -> None:
        try:
            await court.decide(report, action)
        except Conflict as conflict:
            refused.append(conflict.code)

    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            for action in (Action.DISMISS, Action.WARN, Action.BAN):
                nursery.start_soon(decide, action)
    assert refused == ["already_decided"] * 2
    assert len(await court.told(court.ann)) == 1
    with pytest.raises(NotFound):
        await court.decide(replace(report, id=UUID(int=404)), Action.DISMISS)


async def test_two_decisions_that_tell_the_same_two_people_do_not_wait_for_each_other_for_ever(court: Court) -> None:
    one, two = await court.report(court.bob), await court.report(court.ann, by=court.bob)
    with trio.fail_after(10):
        for _ in range(5):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(court.decide, one, Action.WARN)
                nursery.start_soon(court.decide, two, Action.WARN)
            async with court.db.transaction() as tx:
                await tx.execute("UPDATE reports SET status = 'pending', action = NULL, decided_at = NULL")
    assert len(await court.told(court.ann)) == len(await court.told(court.bob)) == 10


# -- erasure -----------------------------------------------------------------------------------------------------------


async def test_reports_of_the_erased_go_and_what_they_reported_is_still_looked_into(db: Database) -> None:
    with trio.fail_after(20):
        leaver, people = await Leaver.over(db), People()
        reports = Reports(db, people.new_id)
        ann, root = people.user("ann"), people.user("root", role=Role.ADMIN)
        for user in (ann, root):
            await Accounts(db).register(user, "a hash", people.session(user.id))
        theirs = Report(people.new_id(), leaver.id, ContentType.USER, ann.id, ann.id, "Mine", NOON)
        of_them = Report(people.new_id(), ann.id, ContentType.USER, leaver.id, leaver.id, "Spam", NOON)
        for report in (theirs, of_them):
            await reports.add(report)
        await leaver.erase()
        [seen], total, _ = await reports.page(Wanted(), limit=10, offset=0)
        assert (total, seen.report.id, seen.reporter, seen.report.reason) == (1, theirs.id, None, "")
        await reports.decide(theirs.id, Action.WARN, "Don't.", None, by=By(root.id), now=NOON)
        with pytest.raises(NotFound):
            await reports.decide(of_them.id, Action.DISMISS, "", None, by=By(root.id), now=NOON)


async def test_a_report_of_who_is_just_being_erased_is_refused(db: Database) -> None:
    leaver, people = await Leaver.over(db), People()
    ann = people.user("ann")
    await Accounts(db).register(ann, "a hash", people.session(ann.id))
    refused = []

    async def report() -> None:
        try:
            await Reports(db, people.new_id).add(
                Report(people.new_id(), ann.id, ContentType.USER, leaver.id, leaver.id, "Spam", NOON)
            )
        except NotFound as gone:
            refused.append(gone)

    with trio.fail_after(10):
        async with trio.open_nursery() as nursery, db.transaction() as tx:
            await tx.execute("UPDATE users SET erased_at = now() WHERE id = $1", leaver.id)
            nursery.start_soon(report)
            await until_blocked(db)
    assert len(refused) == 1
    assert await db.fetchval("SELECT count(*) FROM reports") == 0


async def test_a_decision_about_who_is_just_being_banned_otherwise_waits_and_is_made(court: Court) -> None:
    report = await court.report(court.bob)
    bans = Bans(court.db, court.people.new_id)
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(court.decide, report, Action.BAN, "Spam")

            async def ban() -> None:
                await bans.ban(court.bob.id, None, "Other", by=By(court.root.id), now=court.people.clock())

            nursery.start_soon(ban)
    assert len([each for each in await court.told(court.bob) if each.kind == "account_banned"]) == 2
