"""Accounts on a real database: names are unique without regard to case, and a password's writes rest on one hash."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
import trio

from tests.people import People, until_blocked
from veza.domain.accounts import Credentials, Role, Session, User
from veza.domain.audit import By
from veza.domain.errors import Conflict, NotFound
from veza.store.accounts import Accounts
from veza.store.bridge import Database
from veza.store.sessions import Sessions, open_session

CLI = By(None)


@pytest.fixture
def people() -> People:
    return People()


@pytest.fixture
def accounts(db: Database) -> Accounts:
    return Accounts(db)


async def sign_up(accounts: Accounts, people: People, name: str = "Ann") -> tuple[Credentials, Session]:
    user = people.user(name)
    session = people.session(user.id)
    added = await accounts.register(user, "hash 1", session)
    return Credentials(added, "hash 1"), session


async def is_living(db: Database, people: People, session: Session) -> bool:
    return await Sessions(db).user_of(session.id, session.user_id, people.clock()) is not None


async def hash_of(accounts: Accounts, user: User) -> str:
    found = await accounts.credentials(user.email)
    assert found is not None
    return found.password_hash


async def test_a_registered_user_is_found_and_signed_in(db: Database, accounts: Accounts, people: People) -> None:
    with trio.fail_after(10):
        known, session = await sign_up(accounts, people)
        assert known.user == await accounts.get(known.user.id)
        assert known == await accounts.credentials("ann@example.com")
        assert known == await accounts.credentials_of(known.user.id)
        assert await is_living(db, people, session)


async def test_nobody_is_found_under_another_address_or_id(accounts: Accounts, people: People) -> None:
    with trio.fail_after(10):
        await sign_up(accounts, people)
        assert await accounts.credentials("anne@example.com") is None
        assert await accounts.credentials_of(people.new_id()) is None
        with pytest.raises(NotFound):
            await accounts.get(people.new_id())


async def test_a_username_is_taken_in_every_case(db: Database, accounts: Accounts, people: People) -> None:
    with trio.fail_after(10):
        await sign_up(accounts, people, "Ann")
        double = people.user("aNN", email="other@example.com")
        with pytest.raises(Conflict) as refused:
            await accounts.register(double, "hash", people.session(double.id))
        assert (refused.value.code, refused.value.field) == ("username_taken", "username")
        assert await db.fetchval("SELECT count(*) FROM sessions") == 1


async def test_an_address_is_taken(accounts: Accounts, people: People) -> None:
    with trio.fail_after(10):
        await sign_up(accounts, people, "Ann")
        double = people.user("bob", email="ann@example.com")
        with pytest.raises(Conflict) as refused:
            await accounts.register(double, "hash", people.session(double.id))
        assert (refused.value.code, refused.value.field) == ("email_taken", "email")


async def test_of_many_who_register_one_name_at_once_exactly_one_gets_it(
    db: Database, accounts: Accounts, people: People
) -> None:
    with trio.fail_after(10):
        taken: list[str] = []

        async def register(name: str, number: int) -> None:
            user = people.user(name, email=f"{number}@example.com")
            try:
                await accounts.register(user, "hash", people.session(user.id))
            except Conflict as refusal:
                taken.append(refusal.code)

        async with trio.open_nursery() as nursery:
            for number, name in enumerate(["ann", "Ann", "ANN", "aNN", "anN"]):
                nursery.start_soon(register, name, number)
        assert taken == ["username_taken"] * 4
        assert await db.fetchval("SELECT count(*) FROM users") == 1
        assert await db.fetchval("SELECT count(*) FROM sessions") == 1


async def test_a_rename_changes_what_is_given_and_nothing_else(accounts: Accounts, people: People) -> None:
    with trio.fail_after(10):
        known, _ = await sign_up(accounts, people)
        people.clock.move(timedelta(minutes=1))
        renamed = await accounts.rename(known.user.id, username="anna", email=None, now=people.clock())
        assert (renamed.username, renamed.email) == ("anna", known.user.email)
        assert (renamed.created_at, renamed.updated_at) == (known.user.created_at, people.clock())
        moved = await accounts.rename(known.user.id, username=None, email="a@example.com", now=people.clock())
        assert (moved.username, moved.email) == ("anna", "a@example.com")


async def test_a_rename_takes_nothing_of_anybodys_but_may_change_the_case_of_ones_own(
    accounts: Accounts, people: People
) -> None:
    with trio.fail_after(10):
        ann, _ = await sign_up(accounts, people, "Ann")
        await sign_up(accounts, people, "Bob")
        now = people.clock()
        assert (await accounts.rename(ann.user.id, username="ANN", email=None, now=now)).username == "ANN"
        with pytest.raises(Conflict, match="username"):
            await accounts.rename(ann.user.id, username="BOB", email=None, now=now)
        with pytest.raises(Conflict, match="email"):
            await accounts.rename(ann.user.id, username=None, email="bob@example.com", now=now)
        with pytest.raises(NotFound):
            await accounts.rename(people.new_id(), username="eve", email=None, now=now)


async def test_signing_in_opens_a_session_and_keeps_a_renewed_hash(
    db: Database, accounts: Accounts, people: People
) -> None:
    with trio.fail_after(10):
        known, _ = await sign_up(accounts, people)
        session = people.session(known.user.id)
        assert await accounts.sign_in(known, session, rehashed="hash 2")
        assert await is_living(db, people, session)
        assert await hash_of(accounts, known.user) == "hash 2"


async def test_a_hash_that_changed_since_it_was_verified_signs_nobody_in(
    db: Database, accounts: Accounts, people: People
) -> None:
    with trio.fail_after(10):
        known, first = await sign_up(accounts, people)
        assert await accounts.change_password(known, "hash 2", keep=first.id, now=people.clock())
        session = people.session(known.user.id)
        assert not await accounts.sign_in(known, session, rehashed="hash 3")
        assert not await is_living(db, people, session)
        assert await hash_of(accounts, known.user) == "hash 2"


async def test_a_new_password_ends_every_session_but_the_one_it_was_set_from(
    db: Database, accounts: Accounts, people: People
) -> None:
    with trio.fail_after(10):
        known, here = await sign_up(accounts, people)
        elsewhere = people.session(known.user.id)
        await accounts.sign_in(known, elsewhere)
        _, anothers = await sign_up(accounts, people, "bob")
        assert await accounts.change_password(known, "hash 2", keep=here.id, now=people.clock())
        assert await is_living(db, people, here)
        assert not await is_living(db, people, elsewhere)
        assert await is_living(db, people, anothers)


async def test_of_two_who_change_one_password_at_once_one_is_refused(accounts: Accounts, people: People) -> None:
    with trio.fail_after(10):
        known, here = await sign_up(accounts, people)
        done: list[bool] = []

        async def change(to: str) -> None:
            done.append(await accounts.change_password(known, to, keep=here.id, now=people.clock()))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(change, "hash 2")
            nursery.start_soon(change, "hash 3")
        assert sorted(done) == [False, True]


async def test_a_sign_in_that_overlaps_a_password_change_opens_no_session_on_the_old_password(
    db: Database, accounts: Accounts, people: People
) -> None:
    with trio.fail_after(10):
        known, _ = await sign_up(accounts, people)
        session = people.session(known.user.id)
        opened: list[bool] = []

        async def sign_in() -> None:
            opened.append(await accounts.sign_in(known, session))

        async with trio.open_nursery() as nursery, db.transaction() as tx:
            await tx.execute("UPDATE users SET password_hash = 'hash 2' WHERE id = $1", known.user.id)
            nursery.start_soon(sign_in)
            await until_blocked(db)
        assert opened == [False]
        assert not await is_living(db, people, session)


async def test_a_password_change_ends_the_session_that_a_sign_in_opened_while_it_waited(
    db: Database, accounts: Accounts, people: People
) -> None:
    with trio.fail_after(10):
        known, here = await sign_up(accounts, people)
        session = people.session(known.user.id)

        async def change() -> None:
            assert await accounts.change_password(known, "hash 2", keep=here.id, now=people.clock())

        async with trio.open_nursery() as nursery, db.transaction() as tx:
            # as far as sign_in gets before it commits
            await tx.fetchval("SELECT 1 FROM users WHERE id = $1 FOR NO KEY UPDATE", known.user.id)
            await open_session(tx, session)
            nursery.start_soon(change)
            await until_blocked(db)
        assert not await is_living(db, people, session)
        assert await is_living(db, people, here)


async def audit_of(db: Database) -> list[tuple[str, str, object]]:
    rows = await db.fetch("SELECT action, resource, details, actor_id FROM audit_entries ORDER BY id")
    assert all(row["actor_id"] is None for row in rows)
    return [(row["action"], row["resource"], json.loads(row["details"])) for row in rows]


async def test_a_grant_is_audited_and_granting_again_changes_nothing(
    db: Database, accounts: Accounts, people: People
) -> None:
    with trio.fail_after(10):
        known, _ = await sign_up(accounts, people)
        for _ in range(2):
            granted = await accounts.grant_admin("ann@example.com", by=CLI, new_id=people.new_id, now=people.clock())
            assert granted.role is Role.ADMIN
        assert (await accounts.get(known.user.id)).role is Role.ADMIN
        assert await audit_of(db) == [
            ("user.role", f"users/{known.user.id}", {"from": "user", "to": "admin"}),
        ]
        with pytest.raises(NotFound):
            await accounts.grant_admin("eve@example.com", by=CLI, new_id=people.new_id, now=people.clock())


async def test_a_reset_password_ends_every_session_and_is_audited_without_it(
    db: Database, accounts: Accounts, people: People
) -> None:
    with trio.fail_after(10):
        known, session = await sign_up(accounts, people)
        ended = await accounts.reset_password(
            "ann@example.com", "hash 2", by=CLI, new_id=people.new_id, now=people.clock()
        )
        assert ended == 1
        assert not await is_living(db, people, session)
        assert await hash_of(accounts, known.user) == "hash 2"
        assert await audit_of(db) == [
            ("user.reset_password", f"users/{known.user.id}", {"sessions_ended": 1}),
        ]
        with pytest.raises(NotFound):
            await accounts.reset_password("eve@example.com", "h", by=CLI, new_id=people.new_id, now=people.clock())


async def test_an_added_admin_is_one_and_is_audited(db: Database, accounts: Accounts, people: People) -> None:
    with trio.fail_after(10):
        admin = people.user("boss", role=Role.ADMIN)
        assert await accounts.add_admin(admin, "hash", by=CLI, new_id=people.new_id) == admin
        assert await audit_of(db) == [("user.create_admin", f"users/{admin.id}", {})]
