"""Who comes into the console, and which forms are heeded: every route of it, by every cookie there is."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from html import unescape
from random import Random
from typing import Any
from urllib.parse import urlencode
from uuid import UUID, uuid4

import httpx
import pytest
import trio

from tests.house import ADMIN_EMAIL, PASSWORD, Account, House
from tests.http.desk import refusal
from tests.sales import Sales
from tests.shop import Shop, data
from veza.actors import maintenance
from veza.actors.audit import Outbox
from veza.actors.core.errors import ActorCrashed, DeadlineExceeded
from veza.domain.accounts import Session, SessionEnd, begin_session
from veza.domain.audit import By, Entry
from veza.domain.errors import Conflict
from veza.domain.ids import IdMint, utc_now
from veza.http.app import create_app, routes
from veza.http.console.entry import COOKIE
from veza.http.edge import trace
from veza.http.tokens import Tokens
from veza.store.audit import AuditRows
from veza.store.bridge import Database
from veza.store.errors import OutcomeUnknown
from veza.store.sessions import Sessions, open_session

DOORS = {"/console/login"}
SAMPLES = {"name": "payouts", "path": "veza/janitor"}  # the others are ids
FORMS: dict[str, dict[str, str]] = {
    "/console/actors/:path": {"action": "resume", "incarnation": "1", "reason": "A test."},
    "/console/moderation/:report_id": {"action": "dismiss"},
    "/console/payouts/:transfer_id/hold": {"reason": "A test."},
    "/console/switches/flags/:name": {"enabled": "off"},
    "/console/switches/maintenance": {"enabled": "on"},
}


def console_routes(method: str) -> Iterator[tuple[str, str]]:
    """Template and a path of each."""
    for found, template in routes(create_app()):
        if found == method and template.startswith("/console") and template not in DOORS:
            yield template, re.sub(r":(\w+)", lambda name: SAMPLES.get(name[1], str(uuid4())), template)


@dataclass
class Desk:
    """A house, and the keys to it."""

    house: House
    db: Database
    admin: Account
    user: Account

    def __post_init__(self) -> None:
        self.new_id = IdMint(utc_now, Random(5))
        self.tokens = Tokens(self.house.settings.jwt_secret.get_secret_value().encode(), utc_now, self.new_id)

    async def session(self, of: Account) -> Session:
        session = begin_session(UUID(of.id), self.new_id, utc_now())
        async with self.db.transaction() as tx:
            await open_session(tx, session)
        return session

    async def ask(self, method: str, path: str, token: str | None = None, **more: Any) -> httpx.Response:
        headers = {**more.pop("headers", {}), **({} if token is None else {"Cookie": f"{COOKIE}={token}"})}
        async with self.house.http.stream(method, self.house.url + path, headers=headers, **more) as answer:
            if "event-stream" not in answer.headers["content-type"]:
                await answer.aread()
        return answer

    async def written(self) -> int:
        """How much of what admins do is in the audit."""
        found: int = await self.db.fetchval("SELECT count(*) FROM audit_entries WHERE method IS NULL")
        return found


@pytest.fixture
async def desk(house: House, db: Database) -> AsyncIterator[Desk]:
    with trio.fail_after(120):
        yield Desk(house, db, await house.admin(), await house.sign_up("mallory"))


async def tokens_of_nobody(desk: Desk) -> dict[str, str | None]:
    """Cookies that let nobody in, by what is wrong with them."""
    session = await desk.session(desk.admin)
    old = Tokens(
        desk.house.settings.jwt_secret.get_secret_value().encode(), lambda: utc_now() - timedelta(hours=13), desk.new_id
    )
    ended = await desk.session(desk.admin)
    await Sessions(desk.db).end(ended.user_id, SessionEnd.LOGOUT, utc_now(), only=ended.id)
    forged = Tokens(b"f" * 32, utc_now, desk.new_id)
    return {
        "none": None,
        "no token": "x",
        "an access token": desk.tokens.access(session),
        "a refresh token": desk.tokens.refresh(session),
        "an expired one": old.console(session),
        "of an ended session": desk.tokens.console(ended),
        "signed by another": forged.console(session),
    }


async def test_every_page_is_for_admins_alone_and_strangers_are_led_to_the_door(desk: Desk) -> None:
    nobodies = await tokens_of_nobody(desk)
    user = desk.tokens.console(await desk.session(desk.user))
    admin = desk.tokens.console(await desk.session(desk.admin))
    for template, path in console_routes("GET"):
        for wrong, token in nobodies.items():
            answer = await desk.ask("GET", path, token)
            assert answer.status_code == 303, (template, wrong)
            assert answer.headers["location"].startswith("/console/login"), (template, wrong)
        assert (await desk.ask("GET", path, user)).status_code == 403, template
        answer = await desk.ask("GET", path, admin)
        assert answer.status_code in ({404} if "_id" in template else {200}), template
        assert answer.headers["cache-control"] == "no-store"


async def test_no_form_is_heeded_without_an_admins_cookie_and_their_sessions_key(desk: Desk) -> None:
    before = await desk.written()
    session, other = await desk.session(desk.admin), await desk.session(desk.admin)
    admin, user = desk.tokens.console(session), await desk.session(desk.user)
    for template, path in console_routes("POST"):
        form = FORMS.get(template, {})
        keyed = form | {"key": desk.tokens.form_key(session.id)}
        for wrong, token in (await tokens_of_nobody(desk)).items():
            assert (await desk.ask("POST", path, token, data=keyed)).status_code == 401, (template, wrong)
        own = form | {"key": desk.tokens.form_key(user.id)}
        assert (await desk.ask("POST", path, desk.tokens.console(user), data=own)).status_code == 403, template
        for wrong_key in ({}, {"key": ""}, {"key": "0" * 64}, {"key": desk.tokens.form_key(other.id)}, {"key": "é"}):
            assert (await desk.ask("POST", path, admin, data=form | wrong_key)).status_code == 403, template
        for where in (
            {"Sec-Fetch-Site": "cross-site"},
            {"Sec-Fetch-Site": "same-site"},
            {"Origin": "https://elsewhere.example"},
            {"Origin": "null"},
            {"Origin": "http://[x"},
        ):
            answer = await desk.ask("POST", path, admin, data=keyed, headers=where)
            assert answer.status_code == 403, (template, where)
        assert (await desk.ask("POST", path, admin, json=keyed)).status_code == 400, template
        assert (await desk.ask("POST", path, admin, data=keyed | {"more": "1"})).status_code == 400, template
    assert await desk.written() == before
    assert (await desk.ask("GET", "/console", admin)).status_code == 200, "nor was anybody signed out"
    assert data(await desk.house.get("/admin/maintenance", desk.admin))["enabled"] is False


async def test_with_both_each_form_does_what_it_says(desk: Desk) -> None:
    for template, path in console_routes("POST"):
        session = await desk.session(desk.admin)
        form = FORMS.get(template, {}) | {"key": desk.tokens.form_key(session.id)}
        path = path.replace("/flags/payouts", "/flags/cloud.uploads")
        answer = await desk.ask("POST", path, desk.tokens.console(session), data=form)
        assert answer.status_code == (404 if "_id" in template else 303), template


async def test_what_a_form_did_is_seen_by_the_api_and_is_in_the_audit(desk: Desk) -> None:
    session = await desk.session(desk.admin)
    token, key = desk.tokens.console(session), desk.tokens.form_key(session.id)
    report = {"content_type": "user", "content_id": desk.user.id, "reason": "A test."}
    about = data(await desk.house.post("/reports", desk.admin, json=report))["id"]
    sales = Sales(desk.db)
    transfer = await sales.sale(await sales.seller(), held="banned")  # which an admin may make their own

    async def send(path: str, **form: str) -> None:
        assert (await desk.ask("POST", f"/console/{path}", token, data=form | {"key": key})).status_code == 303

    async def held_because() -> tuple[str, str | None]:
        [seen] = data(await desk.house.get("/admin/transfers", desk.admin))["transfers"]
        return seen["status"], seen["hold_reason"]

    await send(f"payouts/{transfer}/hold", reason="Wait for the label.")
    assert await held_because() == ("held", "admin")
    await send(f"payouts/{transfer}/release")
    assert (await held_because())[1] != "admin"
    await send(f"moderation/{about}", action="dismiss")
    await send("switches/flags/cloud.uploads", enabled="off")
    await send("switches/maintenance", enabled="on", message="Back at noon.", expected_end="2030-01-01T12:00")
    flags = data(await desk.house.get("/admin/feature-flags", desk.admin))["feature_flags"]
    assert [each["name"] for each in flags if not each["enabled"]] == ["cloud.uploads"]
    closed = data(await desk.house.get("/admin/maintenance", desk.admin))
    assert (closed["message"], closed["expected_end"]) == ("Back at noon.", "2030-01-01T12:00:00Z")
    [decided] = data(await desk.house.get("/admin/reports?status=dismissed", desk.admin))["reports"]
    assert (decided["id"], decided["decided_by"]) == (about, desk.admin.id)
    entries = data(await desk.house.get(f"/admin/audit?user_id={desk.admin.id}", desk.admin))["entries"]
    assert [each["action"] for each in entries if each["method"] is None] == [
        "maintenance.switch",
        "flag.switch",
        "report.resolve",
        "transfer.release",
        "transfer.hold",
    ]


async def test_the_consoles_cookie_opens_nothing_else(desk: Desk) -> None:
    token = desk.tokens.console(await desk.session(desk.admin))
    assert refusal(await desk.house.get("/users/me", token)) == (401, "invalid_token")
    answer = await desk.house.post("/auth/refresh", json={"refresh_token": token})
    assert refusal(answer) == (401, "invalid_token")


async def test_a_cookie_that_another_site_planted_keeps_nobody_out(desk: Desk) -> None:
    session = await desk.session(desk.admin)
    ours = desk.tokens.console(session)
    for wrong, planted in (await tokens_of_nobody(desk)).items():
        for value in (f"{planted}; {COOKIE}={ours}", f"{ours}; {COOKIE}={planted}"):
            assert (await desk.ask("GET", "/console", value)).status_code == 200, wrong
            assert (await desk.ask("GET", "/console/live/actors", value)).status_code == 200, wrong
    form = {"key": desk.tokens.form_key(session.id)}
    assert (await desk.ask("POST", "/console/logout", f"x; {COOKIE}={ours}", data=form)).status_code == 303
    assert (await desk.ask("GET", "/console", f"x; {COOKIE}={ours}")).status_code == 303, "nor in"


async def test_a_demotion_and_a_ban_act_at_the_next_request(desk: Desk) -> None:
    other = await desk.house.sign_up("olga")
    for role in ("admin", "user", "admin"):
        data(await desk.house.put(f"/admin/users/{other.id}/role", desk.admin, json={"role": role}))
        session = await desk.session(other)
        told = (await desk.ask("GET", "/console", desk.tokens.console(session))).status_code
        assert told == {"admin": 200, "user": 403}[role]
    data(await desk.house.put(f"/admin/users/{other.id}/role", desk.admin, json={"role": "user"}))
    data(await desk.house.post(f"/admin/users/{other.id}/ban", desk.admin, json={"reason": "A test."}))
    assert (await desk.ask("GET", "/console", desk.tokens.console(session))).status_code == 303


async def test_the_cookie_is_kept_from_scripts_other_sites_and_other_paths_and_taken_away_at_the_end(
    desk: Desk,
) -> None:
    answer = await desk.ask("POST", "/console/login", data={"email": ADMIN_EMAIL, "password": PASSWORD})
    cookie = answer.headers["set-cookie"]
    assert answer.headers["location"] == "/console"
    assert {"HttpOnly", "Path=/console", "SameSite=Strict"} <= set(cookie.split("; "))
    token = cookie.split(";")[0].partition("=")[2]
    page = (await desk.ask("GET", "/console", token)).text
    [key] = set(re.findall(r'name="key" value="(\w+)"', page))
    out = await desk.ask("POST", "/console/logout", token, data={"key": key})
    assert "Max-Age=0" in out.headers["set-cookie"]
    assert (await desk.ask("GET", "/console", token)).status_code == 303
    assert len(data(await desk.house.get("/auth/sessions", desk.admin))["sessions"]) == 1


ELSEWHERE: Sequence[str] = [
    "https://evil.example/",
    "//evil.example",
    "/api/v1/health",
    "/console\\evil",
    "/consoles",
    "x",
    "/console/../api/v1/health",
    "/console/.%2E/watch",
    "/console/audit?resource=" + "x" * 10_000,
]


async def test_signing_in_leads_nowhere_but_into_the_console(desk: Desk, subtests: pytest.Subtests) -> None:
    for elsewhere in ELSEWHERE:
        with subtests.test(repr(elsewhere)):
            form = {"email": ADMIN_EMAIL, "password": PASSWORD, "next": elsewhere}
            assert (await desk.ask("POST", "/console/login", data=form)).headers["location"] == "/console"


async def test_a_password_is_masked_and_may_be_pasted_or_filled_in(desk: Desk) -> None:
    page = (await desk.ask("GET", "/console/login")).text
    [field] = re.findall(r'<input [^>]*name="password"[^>]*>', page)
    assert {'type="password"', 'autocomplete="current-password"'} <= set(field.split())
    assert "<script" not in page, "nothing is there that could forbid it"


async def test_who_may_not_come_in_has_no_session_of_it(desk: Desk) -> None:
    shop = Shop(desk.house)
    before = shop.run("SELECT count(*) FROM sessions")
    for email, password, status in (
        ("mallory@veza.example", PASSWORD, 403),
        (ADMIN_EMAIL, "wrong-horse-1", 401),
        ("nobody@veza.example", PASSWORD, 401),
    ):
        answer = await desk.ask("POST", "/console/login", data={"email": email, "password": password})
        assert answer.status_code == status
        assert "set-cookie" not in answer.headers
    cross = {"Sec-Fetch-Site": "cross-site"}
    form = {"email": ADMIN_EMAIL, "password": PASSWORD}
    assert (await desk.ask("POST", "/console/login", data=form, headers=cross)).status_code == 403
    assert shop.run("SELECT count(*) FROM sessions") == before


async def test_there_is_no_form_to_decide_what_is_about_oneself(desk: Desk) -> None:
    session = await desk.session(desk.admin)
    token, key = desk.tokens.console(session), {"key": desk.tokens.form_key(session.id)}
    report = {"content_type": "user", "content_id": desk.admin.id, "reason": "A test."}
    about = data(await desk.house.post("/reports", desk.user, json=report))["id"]
    shown = await desk.ask("GET", "/console/moderation", token)
    assert "This is about you: another admin decides it." in shown.text
    assert f"/console/moderation/{about}" not in shown.text
    refused = await desk.ask("POST", f"/console/moderation/{about}", token, data={"action": "dismiss"} | key)
    assert refused.status_code == 409
    assert "This report is about you" in refused.text
    [pending] = data(await desk.house.get("/admin/reports", desk.admin))["reports"]
    assert pending["id"] == about


async def test_pages_run_nothing_but_our_own_files_whatever_stands_in_them(desk: Desk) -> None:
    evil = "<script>alert(1)</script>"
    report = {"content_type": "user", "content_id": desk.admin.id, "reason": evil}
    data(await desk.house.post("/reports", desk.user, json=report))
    token = desk.tokens.console(await desk.session(desk.admin))
    answer = await desk.ask("GET", "/console/moderation", token)
    assert evil not in answer.text
    assert "&lt;script&gt;" in answer.text
    policy = answer.headers["content-security-policy"]
    assert "unsafe" not in policy
    for directive in ("default-src 'none'", "script-src 'self'", "frame-ancestors 'none'", "form-action 'self'"):
        assert directive in policy


async def test_the_audit_is_read_with_names_page_by_page_and_filtered(desk: Desk) -> None:
    for number in range(60):
        entry = {"reason": f"Round {number}.", "incarnation": 1}
        await AuditRows(desk.db).record(desk.new_id(), By(UUID(desk.admin.id), None, None), "actor.pause", "x", entry)
    token = desk.tokens.console(await desk.session(desk.admin))
    first = (await desk.ask("GET", "/console/audit?action=actor.pause", token)).text
    assert first.count("actor.pause</th>") == 50
    assert "Round 59." in first
    assert f'<a href="/console/users/{desk.admin.id}">admin</a></td>' in first
    [older] = re.findall(r'href="(/console/audit\?action=actor.pause&amp;before=[^"]+)"', first)
    rest = (await desk.ask("GET", unescape(older), token)).text
    assert rest.count("actor.pause</th>") == 10
    assert "Older" not in rest
    assert (await desk.ask("GET", "/console/audit?before=x", token)).status_code == 400


async def test_the_audit_is_filtered_by_who_what_came_of_it_and_when_and_keeps_that_from_page_to_page(
    desk: Desk,
) -> None:
    admin, user = UUID(desk.admin.id), UUID(desk.user.id)
    at, rows = datetime(2026, 3, 1, 12, tzinfo=UTC), AuditRows(desk.db)
    await rows.append(
        [
            Entry(desk.new_id(), at + timedelta(minutes=number), who, "test.post", f"tests/{number}", "POST", status)
            for number in range(60)
            for who, status in ((admin, 200), (user, 403))
        ]
    )
    token = desk.tokens.console(await desk.session(desk.admin))

    async def look(query: str) -> str:
        answer = await desk.ask("GET", f"/console/audit?{query}", token)
        assert answer.status_code == 200, query
        return answer.text

    def resources(page: str) -> list[str]:
        return re.findall(r"<code>tests/(\d+)</code>", page)

    for who in (desk.user.id, "mallory", "MALLORY", " mallory@veza.example "):
        page = await look(urlencode({"action": "test.post", "who": who, "since": "2026-03-01T12:05", "status": "403"}))
        assert resources(page) == [str(number) for number in range(59, 9, -1)], who
        assert f'name="who" value="{who}"' in page
        assert 'name="since" value="2026-03-01T12:05:00"' in page
        [older] = re.findall(r'href="(/console/audit\?[^"]+before=[^"]+)"', page)
        assert resources((await desk.ask("GET", unescape(older), token)).text) == ["9", "8", "7", "6", "5"], who
    until = "action=test.post&status=200&until=2026-03-01T12:02"
    assert resources(await look(until)) == ["1", "0"], "what is just then is not before then"
    assert resources(await look("action=test.post&since=2026-03-01T13:59:00%2B01:00")) == ["59", "59"]
    assert resources(await look("who=mallory&action=test.post&status=200")) == []
    [live] = re.findall(r'data-live="(/[^"]+)"', await look(until))
    assert "status=200" in live, "what comes anew is filtered alike"
    for query, told in (
        ("who=nobody-here", "There is no account of this name, email or id."),
        ("action=%20&who=nobody-here", "There is no account of this name, email or id."),
        ("status=999", "A request&#39;s status is a number such as 403."),
        ("status=%D9%A4%D9%A0%D9%A3", "A request&#39;s status is a number such as 403."),
        ("since=yesterday", "This is neither an RFC 3339 time"),
        ("since=2026-03-02T12:00&until=2026-03-01T12:00", "It ends before it begins."),
    ):
        page = await look(query)
        [faults] = re.findall(r'role="alert" id="region-faults"[^>]*>(.*?)</div>', page, re.DOTALL)
        assert told in faults, query
        assert "data-unknown" not in page
        assert not resources(page), query


async def test_whatever_goes_wrong_in_the_console_is_told_on_a_page(desk: Desk) -> None:
    token = desk.tokens.console(await desk.session(desk.admin))
    for method, path, status in (
        ("GET", "/console//x", 404),
        ("GET", "/console/a/b", 404),
        ("GET", "/console/payouts/none", 404),
        ("GET", "/console/switches/maintenance", 405),  # where the address of a form's answer leads
        ("POST", "/console", 405),
    ):
        answer = await desk.ask(method, path, token)
        assert answer.status_code == status, path
        assert answer.headers["content-type"] == "text/html; charset=utf-8", path
        assert answer.headers["cache-control"] == "no-store", path
    elsewhere = await desk.ask("GET", "/consoles", token)
    assert elsewhere.headers["content-type"] == "application/json"


async def test_an_error_says_that_nothing_was_changed_only_where_that_is_known(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = await desk.session(desk.admin)
    form = {"key": desk.tokens.form_key(session.id), "enabled": "on"}

    async def switched(*_args: object) -> None:
        raise failures.pop()

    failures: list[Exception] = [OutcomeUnknown("COMMIT was sent"), DeadlineExceeded("0.1 s"), ActorCrashed("x")]
    monkeypatch.setattr(maintenance, "switch", switched)
    while failures:
        answer = await desk.ask("POST", "/console/switches/maintenance", desk.tokens.console(session), data=form)
        assert answer.status_code >= 500
        assert "Nothing was changed" not in answer.text
        assert "Look before you do it again" in answer.text
    failures.append(Conflict("It was before."))
    answer = await desk.ask("POST", "/console/switches/maintenance", desk.tokens.console(session), data=form)
    assert "Nothing was changed" in answer.text
    answer = await desk.ask("GET", "/console/nothing-here", desk.tokens.console(session))
    assert "Nothing was changed" not in answer.text, "nor was anything to be"


async def test_a_form_that_is_refused_says_why_on_its_page_and_keeps_what_was_written(desk: Desk) -> None:
    session = await desk.session(desk.admin)
    token, key = desk.tokens.console(session), {"key": desk.tokens.form_key(session.id)}
    report = {"content_type": "user", "content_id": desk.user.id, "reason": "A test."}
    about = data(await desk.house.post("/reports", desk.admin, json=report))["id"]
    sales = Sales(desk.db)
    transfer = await sales.sale(await sales.seller(), held="admin")
    written = "Wait for <the> label."
    for path, form, status, told in (
        (
            "actors/veza/janitor",
            {"action": "pause", "incarnation": "7", "reason": written},
            412,
            "It is at its incarnation 1 now; look again.",
        ),
        (f"payouts/{transfer}/retry", {}, 409, "A transfer held as admin is not retried but released."),
        (
            f"moderation/{about}",
            {"action": "dismiss", "reason": written, "until": "2030-01-01T12:00"},
            400,
            "Nobody is told this",
        ),
        ("switches/maintenance", {"enabled": "on", "message": written, "expected_end": "soon"}, 400, "expected_end"),
    ):
        answer = await desk.ask("POST", f"/console/{path}", token, data=form | key)
        assert answer.status_code == status, path
        assert "<title>Refused · " in answer.text
        [alert] = re.findall(r'role="alert".*?</div>', answer.text, re.DOTALL)
        assert "Nothing was changed." in alert
        assert told in unescape(alert), path
        if written in form.values():
            assert "Wait for &lt;the&gt; label." in answer.text, path
            assert answer.text.count("data-kept") == sum(name in form for name in ("until", "expected_end")) + 1, path
        at = re.findall(r'data-at="([^"]+)"', answer.text)[0]
        assert (await desk.ask("GET", at, token)).status_code == 200, "where a page comes anew from does nothing"


async def test_of_a_form_that_is_not_known_to_be_ours_nothing_is_kept(desk: Desk) -> None:
    token = desk.tokens.console(await desk.session(desk.admin))
    form = {"key": "0" * 64, "enabled": "on", "message": "Send your passwords elsewhere."}
    answer = await desk.ask("POST", "/console/switches/maintenance", token, data=form)
    assert answer.status_code == 403
    assert "elsewhere" not in answer.text


@pytest.mark.parametrize(("email", "status"), [(ADMIN_EMAIL, 401), ("nobody", 400)])
async def test_who_mistypes_their_password_keeps_their_address_and_where_they_go(
    desk: Desk, email: str, status: int
) -> None:
    form = {"email": email, "password": "wrong-horse-1", "next": "/console/payouts"}
    answer = await desk.ask("POST", "/console/login", data=form)
    assert answer.status_code == status
    assert f'name="email" value="{email}"' in answer.text
    assert 'name="next" value="/console/payouts"' in answer.text
    assert "wrong-horse-1" not in answer.text


async def test_a_supervisor_has_no_form_and_shows_what_it_minds(desk: Desk) -> None:
    token = desk.tokens.console(await desk.session(desk.admin))
    page = (await desk.ask("GET", "/console/actors/veza/money", token)).text
    assert 'name="action"' not in page
    assert 'href="/console/actors/veza/money/payouts"' in page
    leaf = (await desk.ask("GET", "/console/actors/veza/money/payouts", token)).text
    assert leaf.count('name="action"') == 3
    assert '<tr data-key="' not in leaf


async def test_a_form_whose_time_is_up_is_told_so_on_a_page(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    session = await desk.session(desk.admin)

    async def switched(*_args: object) -> None:
        seconds = trace().deadline
        assert seconds is not None
        seconds.cancel()
        await trio.sleep_forever()

    monkeypatch.setattr(maintenance, "switch", switched)
    form = {"key": desk.tokens.form_key(session.id), "enabled": "on"}
    answer = await desk.ask("POST", "/console/switches/maintenance", desk.tokens.console(session), data=form)
    assert (answer.status_code, answer.headers["content-type"]) == (503, "text/html; charset=utf-8")
    assert "it may or may not have been done" in answer.text


async def test_who_is_no_admin_any_more_is_shown_the_door_to_come_in_as_another(desk: Desk) -> None:
    answer = await desk.ask("GET", "/console", desk.tokens.console(await desk.session(desk.user)))
    assert answer.status_code == 403
    assert 'href="/console/login"' in answer.text


async def test_an_admin_comes_in_while_the_audits_keeper_is_stuck_to_see_to_it(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Outbox, "reserve", lambda _full: False)
    form = {"email": ADMIN_EMAIL, "password": PASSWORD}
    signed_in = await desk.ask("POST", "/console/login", data=form)
    assert signed_in.status_code == 303
    token = signed_in.headers["set-cookie"].split(";")[0].partition("=")[2]
    key = re.findall(r'name="key" value="(\w+)"', (await desk.ask("GET", "/console", token)).text)[0]
    out = await desk.ask("POST", "/console/logout", token, data={"key": key})
    assert (out.status_code, out.headers["content-type"]) == (503, "text/html; charset=utf-8")
    act = {"key": key, "action": "resume", "incarnation": "1", "reason": "A test."}
    assert (await desk.ask("POST", "/console/actors/veza/janitor", token, data=act)).status_code == 303
