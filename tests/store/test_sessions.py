"""Sessions on a real database: who is behind one, how its refresh token goes round, and how it ends."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
import trio

from tests.people import People
from veza.domain.accounts import SESSION_LIFETIME, SESSION_LONGEST, Refresh, Role, Session, SessionEnd, User
from veza.domain.guesses import REMEMBERED
from veza.store.accounts import Accounts
from veza.store.bridge import Database
from veza.store.sessions import Refreshed, Sessions, open_session

NO_GRACE = timedelta(0)
GRACE = timedelta(seconds=10)


@pytest.fixture
def people() -> People:
    return People()


@pytest.fixture
def sessions(db: Database) -> Sessions:
    return Sessions(db)


async def sign_up(db: Database, people: People, name: str = "ann") -> tuple[User, Session]:
    user = people.user(name)
    session = people.session(user.id)
    await Accounts(db).register(user, "a hash", session)
    return user, session


async def sign_in_again(db: Database, people: People, user: User) -> Session:
    session = people.session(user.id)
    async with db.transaction() as tx:
        await open_session(tx, session)
    return session


async def refresh(
    sessions: Sessions, people: People, session: Session, grace: timedelta = NO_GRACE
) -> Refreshed | Refresh:
    return await sessions.refresh(
        session.id, session.user_id, session.refresh_id, new_id=people.new_id, now=people.clock(), grace=grace
    )


async def refreshed(sessions: Sessions, people: People, session: Session, grace: timedelta = NO_GRACE) -> Session:
    outcome = await refresh(sessions, people, session, grace)
    assert isinstance(outcome, Refreshed)
    return outcome.session


async def why_ended(db: Database, session: Session) -> str | None:
    why: str | None = await db.fetchval("SELECT ended_why FROM sessions WHERE id = $1", session.id)
    return why


async def test_a_living_session_tells_whose_it_is(db: Database, sessions: Sessions, people: People) -> None:
    with trio.fail_after(10):
        user, session = await sign_up(db, people)
        assert await sessions.user_of(session.id, user.id, people.clock()) == user


async def test_a_session_is_nobodys_once_it_is_over_or_claimed_for_another(
    db: Database, sessions: Sessions, people: People
) -> None:
    with trio.fail_after(10):
        user, session = await sign_up(db, people)
        other, _ = await sign_up(db, people, "bob")
        assert await sessions.user_of(session.id, other.id, people.clock()) is None
        assert await sessions.user_of(people.new_id(), user.id, people.clock()) is None
        assert await sessions.user_of(session.id, user.id, session.expires_at) is None
        await sessions.end(user.id, SessionEnd.LOGOUT, people.clock(), only=session.id)
        assert await sessions.user_of(session.id, user.id, people.clock()) is None


async def test_a_promotion_is_seen_by_the_next_look_at_the_session(
    db: Database, sessions: Sessions, people: People
) -> None:
    with trio.fail_after(10):
        user, session = await sign_up(db, people)
        async with db.transaction() as tx:
            await tx.execute("UPDATE users SET role = 'admin' WHERE id = $1", user.id)
        found = await sessions.user_of(session.id, user.id, people.clock())
        assert found is not None
        assert found.role is Role.ADMIN


async def test_a_refresh_gives_the_next_token_and_another_week(
    db: Database, sessions: Sessions, people: People
) -> None:
    with trio.fail_after(10):
        user, session = await sign_up(db, people)
        people.clock.move(timedelta(days=6))
        outcome = await refresh(sessions, people, session)
        assert isinstance(outcome, Refreshed)
        assert outcome.user == user
        now = people.clock()
        assert outcome.session == replace(
            session,
            refresh_id=outcome.session.refresh_id,
            last_used_at=now,
            expires_at=now + SESSION_LIFETIME,
        )
        assert outcome.session.refresh_id != session.refresh_id
        assert isinstance(await refresh(sessions, people, outcome.session), Refreshed)


async def test_no_refresh_makes_a_session_last_longer_than_a_month(
    db: Database, sessions: Sessions, people: People
) -> None:
    with trio.fail_after(10):
        _, session = await sign_up(db, people)
        over = session.created_at + SESSION_LONGEST
        while people.clock() < over - timedelta(days=6):
            people.clock.move(timedelta(days=6))
            session = await refreshed(sessions, people, session)
        assert session.expires_at == over
        people.clock.move(over - people.clock())
        assert await refresh(sessions, people, session) is Refresh.OVER


async def test_a_reused_refresh_token_ends_its_session_and_no_other(
    db: Database, sessions: Sessions, people: People
) -> None:
    with trio.fail_after(10):
        user, session = await sign_up(db, people)
        other = await sign_in_again(db, people, user)
        good = await refreshed(sessions, people, session)
        assert await refresh(sessions, people, session) is Refresh.REUSED
        assert await why_ended(db, session) == "reused"
        assert await refresh(sessions, people, good) is Refresh.OVER
        assert await sessions.user_of(session.id, user.id, people.clock()) is None
        assert await sessions.user_of(other.id, user.id, people.clock()) == user


async def test_an_unknown_or_foreign_session_refreshes_nothing(
    db: Database, sessions: Sessions, people: People
) -> None:
    with trio.fail_after(10):
        _, session = await sign_up(db, people)
        assert await refresh(sessions, people, replace(session, id=people.new_id())) is Refresh.OVER
        assert await refresh(sessions, people, replace(session, user_id=people.new_id())) is Refresh.OVER
        assert await why_ended(db, session) is None


async def test_of_many_who_refresh_with_one_token_exactly_one_wins_and_the_family_is_over(
    db: Database, sessions: Sessions, people: People
) -> None:
    with trio.fail_after(10):
        user, session = await sign_up(db, people)
        outcomes: list[Refreshed | Refresh] = []

        async def one() -> None:
            outcomes.append(await refresh(sessions, people, session))

        async with trio.open_nursery() as nursery:
            for _ in range(8):
                nursery.start_soon(one)
        assert sum(isinstance(each, Refreshed) for each in outcomes) == 1
        assert outcomes.count(Refresh.REUSED) == 1
        assert outcomes.count(Refresh.OVER) == 6
        assert await sessions.user_of(session.id, user.id, people.clock()) is None


async def test_within_the_grace_all_who_refresh_with_one_token_get_the_same_next_one(
    db: Database, sessions: Sessions, people: People
) -> None:
    with trio.fail_after(10):
        _, session = await sign_up(db, people)
        got: set[Session] = set()

        async def one() -> None:
            got.add(await refreshed(sessions, people, session, GRACE))

        async with trio.open_nursery() as nursery:
            for _ in range(8):
                nursery.start_soon(one)
        [same] = got
        assert same.refresh_id != session.refresh_id
        assert isinstance(await refresh(sessions, people, same, GRACE), Refreshed)


async def test_after_the_grace_a_lost_answer_is_a_reuse(db: Database, sessions: Sessions, people: People) -> None:
    with trio.fail_after(10):
        _, session = await sign_up(db, people)
        await refreshed(sessions, people, session, GRACE)
        people.clock.move(GRACE)
        assert await refresh(sessions, people, session, GRACE) is Refresh.REUSED


async def test_a_token_two_before_the_good_one_is_a_reuse_even_within_the_grace(
    db: Database, sessions: Sessions, people: People
) -> None:
    with trio.fail_after(10):
        _, session = await sign_up(db, people)
        await refreshed(sessions, people, await refreshed(sessions, people, session, GRACE), GRACE)
        assert await refresh(sessions, people, session, GRACE) is Refresh.REUSED


async def test_a_page_of_sessions_has_the_living_ones_latest_used_first(
    db: Database, sessions: Sessions, people: People
) -> None:
    with trio.fail_after(10):
        user, first = await sign_up(db, people)
        people.clock.move(timedelta(minutes=1))
        second, third = [await sign_in_again(db, people, user) for _ in range(2)]
        await sign_up(db, people, "bob")
        await sessions.end(user.id, SessionEnd.LOGOUT, people.clock(), only=third.id)
        people.clock.move(timedelta(minutes=1))
        used = await refreshed(sessions, people, first)
        now = people.clock()
        assert await sessions.page(user.id, now, limit=20, offset=0) == ([used, second], 2)
        assert await sessions.page(user.id, now, limit=1, offset=1) == ([second], 2)
        assert await sessions.page(user.id, now, limit=20, offset=9) == ([], 2)
        assert await sessions.get(first.id, user.id, now) == used
        assert await sessions.get(third.id, user.id, now) is None
        assert await sessions.get(first.id, people.new_id(), now) is None


async def test_all_sessions_of_a_user_end_at_once_and_stay_as_they_ended(
    db: Database, sessions: Sessions, people: People
) -> None:
    with trio.fail_after(10):
        user, first = await sign_up(db, people)
        second = await sign_in_again(db, people, user)
        _, of_another = await sign_up(db, people, "bob")
        assert await sessions.end(user.id, SessionEnd.LOGOUT, people.clock(), only=first.id) == 1
        assert await sessions.end(user.id, SessionEnd.ENDED_BY_USER, people.clock()) == 1
        assert await sessions.end(user.id, SessionEnd.BANNED, people.clock()) == 0
        assert [await why_ended(db, each) for each in (first, second, of_another)] == [
            "logout",
            "ended_by_user",
            None,
        ]


async def test_a_new_session_sweeps_out_what_the_users_expired_ones_left(
    db: Database, sessions: Sessions, people: People
) -> None:
    with trio.fail_after(10):
        user, _ = await sign_up(db, people)
        people.clock.move(SESSION_LIFETIME)
        session = await sign_in_again(db, people, user)
        rows = await db.fetch("SELECT id FROM sessions")
        assert [row["id"] for row in rows] == [session.id]


async def test_a_device_is_known_while_it_is_signed_in_or_has_signed_out_and_not_once_it_was_put_out(
    db: Database, people: People, sessions: Sessions
) -> None:
    with trio.fail_after(10):
        user, first = await sign_up(db, people)
        left, put_out = await sign_in_again(db, people, user), await sign_in_again(db, people, user)
        other, _ = await sign_up(db, people, "bob")
        await sessions.end(user.id, SessionEnd.LOGOUT, people.clock(), only=left.id)
        await sessions.end(user.id, SessionEnd.ENDED_BY_USER, people.clock(), only=put_out.id)
        known = await sessions.known(user.id, people.clock())
        assert {each.session_id for each in known} == {first.id, left.id}
        assert {each.address for each in known} == {"192.0.2.7"}
        assert len(await sessions.known(other.id, people.clock())) == 1
        people.clock.move(REMEMBERED)
        assert await sessions.known(user.id, people.clock()) == []
