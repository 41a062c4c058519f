"""The operator's hand on accounts: granting, resetting, and the first admin, who is never somebody already there."""

from __future__ import annotations

import pytest
import trio

from tests.people import People, cheap_hasher
from veza import admin
from veza.domain.accounts import Role, User, check_password
from veza.domain.errors import Invalid, NotFound
from veza.gateways.passwords import Passwords, Verdict
from veza.store.accounts import Accounts
from veza.store.bridge import Database
from veza.store.sessions import Sessions

PASSWORD = "correct-horse-1"


class Office:
    """The commands over one database."""

    def __init__(self, db: Database) -> None:
        self.people = People()
        self.accounts = Accounts(db)
        self.sessions = Sessions(db)
        self.passwords = Passwords(cheap_hasher())
        self.db = db

    async def sign_up(self, name: str) -> User:
        user = self.people.user(name)
        hashed = await self.passwords.hash(PASSWORD)
        return await self.accounts.register(user, hashed, self.people.session(user.id))

    async def ensure_admin(self, email: str = "boss@example.com", password: str = PASSWORD) -> User | None:
        return await admin.ensure_admin(
            self.accounts, self.passwords, email, password, new_id=self.people.new_id, now=self.people.clock
        )

    async def reset(self, email: str, password: str | None = None) -> str:
        return await admin.reset_password(
            self.accounts, self.passwords, email, password, new_id=self.people.new_id, now=self.people.clock
        )

    async def signs_in(self, email: str, password: str) -> bool:
        found = await self.accounts.credentials(email)
        return await self.passwords.verify(password, found.password_hash if found else None) is Verdict.RIGHT

    async def audited(self) -> list[str]:
        return [row["action"] for row in await self.db.fetch("SELECT action FROM audit_entries ORDER BY id")]


@pytest.fixture
def office(db: Database) -> Office:
    return Office(db)


async def test_a_grant_makes_an_admin_of_an_account_in_whatever_case_its_address_is_typed(office: Office) -> None:
    with trio.fail_after(10):
        user = await office.sign_up("ann")
        granted = await admin.grant(
            office.accounts, " Ann@Example.COM", new_id=office.people.new_id, now=office.people.clock
        )
        assert (granted.id, granted.role) == (user.id, Role.ADMIN)
        assert await office.audited() == ["user.role"]


async def test_a_reset_password_is_a_good_one_and_the_only_one(office: Office) -> None:
    with trio.fail_after(10):
        user = await office.sign_up("ann")
        fresh = await office.reset("ann@example.com")
        assert check_password(fresh)
        assert fresh != await office.reset("ann@example.com")
        chosen = await office.reset("ann@example.com", "chosen-by-hand-1")
        assert chosen == "chosen-by-hand-1"
        assert await office.signs_in("ann@example.com", chosen)
        for old in (PASSWORD, fresh):
            assert not await office.signs_in("ann@example.com", old)
        assert await office.sessions.page(user.id, office.people.clock(), limit=9, offset=0) == ([], 0)
        assert await office.audited() == ["user.reset_password"] * 3


async def test_nothing_is_reset_for_a_bad_password_or_nobody(office: Office) -> None:
    with trio.fail_after(10):
        await office.sign_up("ann")
        with pytest.raises(Invalid):
            await office.reset("ann@example.com", "short")
        with pytest.raises(NotFound):
            await office.reset("eve@example.com")
        assert await office.signs_in("ann@example.com", PASSWORD)
        assert await office.audited() == []


async def test_the_first_admin_is_made_once(office: Office) -> None:
    with trio.fail_after(10):
        made = await office.ensure_admin("Boss@Example.com")
        assert made is not None
        assert (made.username, made.email, made.role) == ("admin", "boss@example.com", Role.ADMIN)
        assert await office.signs_in("boss@example.com", PASSWORD)
        assert await office.ensure_admin() is None
        assert await office.audited() == ["user.create_admin"]


async def test_an_account_that_is_there_already_is_not_promoted_and_keeps_its_password(office: Office) -> None:
    with trio.fail_after(10):
        user = await office.sign_up("boss")
        assert await office.ensure_admin(password="another-one-2") is None
        assert await office.accounts.get(user.id) == user
        assert await office.signs_in("boss@example.com", PASSWORD)


async def test_the_first_admin_finds_a_name_where_admin_is_taken(office: Office) -> None:
    with trio.fail_after(10):
        await office.sign_up("Admin")
        made = await office.ensure_admin()
        assert made is not None
        assert made.username.startswith("admin-")


async def test_two_processes_that_start_together_make_one_admin(office: Office) -> None:
    made: list[User | None] = []

    async def start() -> None:
        made.append(await office.ensure_admin())

    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(start)
        assert sum(each is not None for each in made) == 1
        assert await office.db.fetchval("SELECT count(*) FROM users") == 1


@pytest.mark.parametrize(
    ("email", "password", "name"),
    [("nobody", PASSWORD, "ADMIN_EMAIL"), ("a@example.com", "short", "ADMIN_PASSWORD")],
)
async def test_a_bad_setting_is_named_and_its_value_is_not(
    office: Office, email: str, password: str, name: str
) -> None:
    with trio.fail_after(10), pytest.raises(Invalid, match=name) as refused:
        await office.ensure_admin(email, password)
    assert "short" not in str(refused.value).replace("too short", "")
