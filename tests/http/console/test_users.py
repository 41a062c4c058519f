"""Users in the console: found, shown as they stand, banned and let in again, by the doors that the API's routes use."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from html import unescape
from uuid import uuid4

import httpx
import pytest
import trio

from tests.house import Account, House
from tests.http.console.test_doors import Desk
from tests.sales import Sales
from tests.shop import data
from veza.domain.accounts import Session
from veza.store.bridge import Database

WORDS = "Sells <what> is not theirs."


@pytest.fixture
async def desk(house: House, db: Database) -> AsyncIterator[Desk]:
    with trio.fail_after(120):
        yield Desk(house, db, await house.admin(), await house.sign_up("mallory"))


@pytest.fixture
async def session(desk: Desk) -> Session:
    return await desk.session(desk.admin)


async def look(desk: Desk, session: Session, path: str) -> str:
    answer = await desk.ask("GET", f"/console/{path}", desk.tokens.console(session))
    assert answer.status_code == 200, answer.text
    return answer.text


async def send(desk: Desk, session: Session, whom: str, what: str, **form: str) -> httpx.Response:
    form |= {"key": desk.tokens.form_key(session.id)}
    return await desk.ask("POST", f"/console/users/{whom}/{what}", desk.tokens.console(session), data=form)


def listed(page: str) -> list[str]:
    return re.findall(r'<th scope="row" data-label="User"><a [^>]+>([^<]+)</a>', page)


def facts(page: str) -> dict[str, str]:
    told = re.findall(r"<dt>([^<]+)</dt><dd>(.*?)</dd>", page, re.DOTALL)
    return {name: unescape(re.sub(r"<[^>]+>", "", value)).strip() for name, value in told}


async def test_users_are_found_by_a_part_of_their_name_or_email_by_their_id_and_by_what_they_are(
    desk: Desk, session: Session
) -> None:
    assert listed(await look(desk, session, "users")) == ["mallory", "admin"]
    for search, found in (
        ("ALLOR", ["mallory"]),
        ("mallory@veza", ["mallory"]),
        (desk.user.id, ["mallory"]),
        ("veza.example", ["mallory", "admin"]),
        ("%", []),
        ("x" * 5_000, []),
    ):
        assert listed(await look(desk, session, f"users?search={httpx.QueryParams({'q': search})['q']}")) == found, (
            search
        )
    assert listed(await look(desk, session, "users?which=admins")) == ["admin"]
    assert listed(await look(desk, session, "users?which=banned")) == []
    data(await desk.house.post(f"/admin/users/{desk.user.id}/ban", desk.admin, json={}))
    assert listed(await look(desk, session, "users?which=banned&search=mal")) == ["mallory"]
    assert listed(await look(desk, session, "users?which=x&offset=x")) == ["mallory", "admin"]


async def test_a_long_list_goes_on_and_keeps_what_was_asked(desk: Desk, session: Session) -> None:
    sales = Sales(desk.db)
    for _ in range(51):
        await sales.user()
    first = await look(desk, session, "users?search=e&which=")
    [older] = re.findall(r'href="/console/(users\?search=e&amp;offset=50)"', first)
    rest = await look(desk, session, unescape(older))
    assert "Older" not in rest
    shown = listed(first) + listed(rest)
    assert (len(listed(first)), len(shown), len(set(shown))) == (50, 53, 53)
    assert {"admin", "mallory"} <= set(shown)


async def test_a_ban_does_what_the_apis_does_is_told_and_audited_and_is_lifted_again(
    desk: Desk, session: Session
) -> None:
    whom = desk.user.id
    assert facts(await look(desk, session, f"users/{whom}"))["State"] == "takes part"
    banned = await send(desk, session, whom, "ban", reason=WORDS, until="2100-01-01T12:00")
    assert (banned.status_code, banned.headers["location"]) == (303, f"/console/users/{whom}")
    [seen] = data(await desk.house.get(f"/admin/users?search={whom}", desk.admin))["users"]
    assert (seen["ban"]["reason"], seen["ban"]["until"]) == (WORDS, "2100-01-01T12:00:00Z")
    assert (await desk.house.get("/users/me", desk.user)).status_code == 401, "their sessions are over"
    page = await look(desk, session, f"users/{whom}")
    told = facts(page)
    assert (told["State"], told["Why"], told["Banned until"]) == ("banned", WORDS, "01 Jan 2100 12:00:00")
    assert WORDS not in page, "it is escaped"
    assert f'action="/console/users/{whom}/unban"' in page
    assert "user.ban</th>" in page
    anew = await send(desk, session, whom, "ban")
    assert anew.status_code == 303
    told = facts(await look(desk, session, f"users/{whom}"))
    assert (told["Banned until"], told["Why"]) == ("an admin lifts it", "nothing was said")
    assert (await send(desk, session, whom, "unban")).status_code == 303
    page = await look(desk, session, f"users/{whom}")
    assert facts(page)["State"] == "takes part"
    assert "/unban" not in page
    entries = data(await desk.house.get(f"/admin/audit?resource=users/{whom}&user_id={desk.admin.id}", desk.admin))
    assert [each["action"] for each in entries["entries"]] == ["user.unban", "user.ban", "user.ban"]
    assert entries["entries"][2]["details"]["reason"] == WORDS


async def test_what_may_not_be_done_is_refused_on_the_page_and_changes_nothing(desk: Desk, session: Session) -> None:
    before = await desk.written()
    for whom, what, form, status, told in (
        (desk.admin, "ban", {"reason": "x"}, 409, "This is the last admin"),
        (desk.user, "unban", {}, 409, "This account is not banned."),
        (desk.user, "ban", {"reason": WORDS, "until": "2020-01-01T12:00"}, 400, "A ban ends in the future."),
        (desk.user, "ban", {"reason": "x" * 501}, 400, "at most 500 characters"),
    ):
        answer = await send(desk, session, whom.id, what, **form)
        assert answer.status_code == status, told
        [alert] = re.findall(r'role="alert".*?</div>', answer.text, re.DOTALL)
        assert told in unescape(alert), alert
        assert "Nothing was changed." in alert
    assert await desk.written() == before
    data(await desk.house.put(f"/admin/users/{desk.user.id}/role", desk.admin, json={"role": "admin"}))
    own = await send(desk, session, desk.admin.id, "ban", reason="x")
    assert (own.status_code, "This is your own account: ask another admin." in own.text) == (409, True)
    page = (await send(desk, session, desk.user.id, "ban", reason=WORDS, until="2020-01-01T12:00")).text
    assert 'id="wrong-until">A ban ends in the future.</p>' in page
    assert "data-kept>Sells &lt;what&gt; is not theirs.</textarea>" in page
    assert 'name="reason"' not in await look(desk, session, f"users/{desk.admin.id}"), "nobody bans themselves"


async def test_who_is_not_there_or_was_erased_has_no_page(desk: Desk, session: Session) -> None:
    async def erased(account: Account) -> None:
        async with desk.db.transaction() as tx:
            await tx.execute("UPDATE users SET erased_at = now() WHERE id = $1", account.id)

    await erased(desk.user)
    for whom in (desk.user.id, str(uuid4())):
        token = desk.tokens.console(session)
        assert (await desk.ask("GET", f"/console/users/{whom}", token)).status_code == 404
        assert (await desk.ask("GET", f"/console/live/user?id={whom}", token)).status_code == 200, (
            "which says it is over"
        )
        assert (await send(desk, session, whom, "ban")).status_code == 404
    assert (await desk.ask("GET", "/console/live/user?id=x", token)).status_code == 404
