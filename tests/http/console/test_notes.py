"""What a page says after a form: that it was done, or that its sender was signed out, and what they wrote is kept."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from html import unescape
from uuid import UUID

import httpx
import pytest
import trio

from tests.house import ADMIN_EMAIL, PASSWORD, House
from tests.http.console.test_doors import Desk
from tests.sales import Sales
from tests.shop import data
from veza.domain.accounts import Session, SessionEnd
from veza.domain.ids import utc_now
from veza.http.console import notes
from veza.http.console.entry import COOKIE
from veza.http.tokens import Tokens
from veza.store.bridge import Database
from veza.store.sessions import Sessions


@pytest.fixture
async def desk(house: House, db: Database) -> AsyncIterator[Desk]:
    with trio.fail_after(120):
        yield Desk(house, db, await house.admin(), await house.sign_up("mallory"))


def note_of(answer: httpx.Response) -> str:
    """What goes along with an answer, as browsers send it back."""
    [found] = [each for each in answer.headers.get_list("set-cookie") if each.startswith(notes.COOKIE)]
    assert {"HttpOnly", "Path=/console", "SameSite=Strict"} <= set(found.split("; "))
    return found.split(";")[0]


def said(answer: httpx.Response) -> list[str]:
    return [
        unescape(each)
        for each in re.findall(r'<p class="said(?: undone)?" role="status"[^>]*>([^<]+)</p>', answer.text)
    ]


async def send(desk: Desk, session: Session, path: str, **form: str) -> httpx.Response:
    form |= {"key": desk.tokens.form_key(session.id)}
    return await desk.ask("POST", f"/console/{path}", desk.tokens.console(session), data=form)


async def end(desk: Desk, session: Session) -> None:
    await Sessions(desk.db).end(session.user_id, SessionEnd.LOGOUT, utc_now(), only=session.id)


async def test_after_each_form_its_page_says_once_what_was_done(desk: Desk) -> None:
    session = await desk.session(desk.admin)
    token = desk.tokens.console(session)
    sales = Sales(desk.db)
    transfer = await sales.sale(await sales.seller(), held="banned")
    report = {"content_type": "user", "content_id": desk.user.id, "reason": "A test."}
    about = data(await desk.house.post("/reports", desk.admin, json=report))["id"]
    forms: Sequence[tuple[str, dict[str, str], str]] = [
        ("actors/veza/janitor", {"action": "pause", "incarnation": "1", "reason": "x"}, "veza/janitor was paused."),
        ("actors/veza/janitor", {"action": "resume", "incarnation": "1", "reason": "x"}, "veza/janitor was resumed."),
        (f"payouts/{transfer}/hold", {}, "The transfer is held until it is released."),
        (f"payouts/{transfer}/release", {}, "The transfer was released."),
        (f"moderation/{about}", {"action": "warn"}, "mallory was warned, and the report is resolved."),
        ("switches/flags/cloud.uploads", {"enabled": "off"}, "cloud.uploads was switched off."),
        ("switches/maintenance", {"enabled": "on"}, "Maintenance is on: everyone but admins is turned away."),
        ("switches/maintenance", {"enabled": "off"}, "Maintenance is off."),
    ]
    for path, form, told in forms:
        answer = await send(desk, session, path, **form)
        at, note = answer.headers["location"], note_of(answer)
        assert "?" not in at, "nothing is said by an address"
        elsewhere = await desk.ask("GET", "/console/exports", f"{token}; {note}")
        assert said(elsewhere) == [], path
        assert "set-cookie" not in elsewhere.headers
        looked = await desk.ask("HEAD", at, f"{token}; {note}")
        assert "set-cookie" not in looked.headers, "whoever only looks whether it is there takes nothing away"
        page = await desk.ask("GET", at, f"{token}; {note}")
        assert said(page) == [told], path
        assert "autofocus" in re.findall(r'<p class="said"[^>]*>', page.text)[0]
        assert note_of(page) == f"{notes.COOKIE}="
        assert said(await desk.ask("GET", at, token)) == []


async def test_no_page_says_what_somebody_else_wrote(desk: Desk) -> None:
    session = await desk.session(desk.admin)
    token, content = desk.tokens.console(session), {"at": "/console/exports", "says": "x", "form": "", "written": {}}
    secret = desk.house.settings.jwt_secret.get_secret_value().encode()
    admin, minute = UUID(desk.admin.id), timedelta(minutes=1)
    late = Tokens(secret, lambda: utc_now() - timedelta(minutes=2), desk.new_id)
    good = desk.tokens.sealed(content, admin, minute)
    for wrong, planted in {
        "of another": desk.tokens.sealed(content, UUID(desk.user.id), minute),
        "of nobody": desk.tokens.sealed(content, None, minute),
        "signed by another": Tokens(b"f" * 32, utc_now, desk.new_id).sealed(content, admin, minute),
        "too old": late.sealed(content, admin, minute),
        "a token": token,
        "text": "Send your password elsewhere.",
        "nothing": "",
    }.items():
        page = await desk.ask("GET", "/console/exports?says=x&done=x", f"{token}; {notes.COOKIE}={planted}")
        assert (page.status_code, said(page)) == (200, []), wrong
        beside = await desk.ask("GET", "/console/exports", f"{token}; {notes.COOKIE}={planted}; {notes.COOKIE}={good}")
        assert said(beside) == ["x"], wrong
    assert (await desk.ask("GET", "/console", good)).status_code == 303, "nor is a note a token"


async def test_who_signs_out_is_told_so_once(desk: Desk) -> None:
    session = await desk.session(desk.admin)
    out = await send(desk, session, "logout")
    door = await desk.ask("GET", out.headers["location"], f"; {note_of(out)}")
    assert said(door) == ["You have signed out."]
    assert said(await desk.ask("GET", "/console/login")) == []


FORM = {"enabled": "on", "message": "Zurück um eins. " + "слово " * 79, "expected_end": "2100-01-01T12:00"}


async def test_a_form_of_a_session_that_is_over_does_nothing_and_is_there_again_after_signing_in(desk: Desk) -> None:
    session = await desk.session(desk.admin)
    token = desk.tokens.console(session)
    await end(desk, session)
    refused = await send(desk, session, "switches/maintenance", **FORM)
    assert refused.status_code == 401
    assert "You are not signed in any more, so nothing was done." in refused.text
    assert 'name="next" value="/console/switches"' in refused.text
    note = note_of(refused)
    assert desk.admin.id not in refused.text
    form = {"email": ADMIN_EMAIL, "password": PASSWORD, "next": "/console/switches"}
    back = await desk.ask("POST", "/console/login", f"{token}; {note}", data=form)
    assert back.headers["location"] == "/console/switches"
    fresh = back.headers["set-cookie"].split(";")[0].removeprefix(f"{COOKIE}=")
    page = await desk.ask("GET", "/console/switches", f"{fresh}; {note}")
    assert said(page) == ["You had been signed out, and nothing was done. What you wrote is still here."]
    assert f'value="{FORM["message"].strip()}' in page.text
    assert 'value="2100-01-01T12:00" data-kept' in page.text
    assert session.id.hex not in page.text
    assert data(await desk.house.get("/admin/maintenance", desk.admin))["enabled"] is False
    other = await desk.house.sign_up("olga")
    data(await desk.house.put(f"/admin/users/{other.id}/role", desk.admin, json={"role": "admin"}))
    theirs = desk.tokens.console(await desk.session(other))
    assert "data-kept" not in (await desk.ask("GET", "/console/switches", f"{theirs}; {note}")).text


async def test_a_session_that_ran_out_by_itself_is_known_as_well(desk: Desk) -> None:
    session = await desk.session(desk.admin)
    old = Tokens(
        desk.house.settings.jwt_secret.get_secret_value().encode(), lambda: utc_now() - timedelta(hours=13), desk.new_id
    )
    form = FORM | {"key": desk.tokens.form_key(session.id)}
    refused = await desk.ask("POST", "/console/switches/maintenance", old.console(session), data=form)
    assert refused.status_code == 401
    fresh = desk.tokens.console(await desk.session(desk.admin))
    page = await desk.ask("GET", "/console/switches", f"{fresh}; {note_of(refused)}")
    assert page.text.count("data-kept") == 2
    signed_in = await desk.ask("POST", "/console/login", data={"email": ADMIN_EMAIL, "password": PASSWORD})
    assert f"Max-Age={24 * 3600}" in signed_in.headers["set-cookie"], "a browser sends it for as long"


async def test_of_a_form_that_is_not_known_to_be_of_the_session_that_is_over_nothing_is_kept(desk: Desk) -> None:
    session, other = await desk.session(desk.admin), await desk.session(desk.admin)
    await end(desk, session)
    token, key = desk.tokens.console(session), desk.tokens.form_key(session.id)
    for wrong, cookie, form, headers in (
        ("no cookie", None, {"key": key}, {}),
        ("a strange key", token, {"key": desk.tokens.form_key(other.id)}, {}),
        ("no key", token, {}, {}),
        ("another site's", token, {"key": key}, {"Sec-Fetch-Site": "cross-site"}),
        ("a forged token", Tokens(b"f" * 32, utc_now, desk.new_id).console(session), {"key": key}, {}),
    ):
        where = "/console/switches/maintenance"
        answer = await desk.ask("POST", where, cookie, data=FORM | form, headers=headers)
        assert answer.status_code == 401, wrong
        assert "so nothing was done" in answer.text, wrong
        assert 'name="next" value="/console/switches"' in answer.text, wrong
        assert "set-cookie" not in answer.headers, wrong
        assert "Zurück" not in answer.text, wrong


async def test_what_is_too_long_for_a_cookie_is_said_to_be_lost(desk: Desk) -> None:
    session = await desk.session(desk.admin)
    await end(desk, session)
    refused = await send(desk, session, "switches/maintenance", enabled="on", message="\N{TEST TUBE}" * 2_000)
    fresh = desk.tokens.console(await desk.session(desk.admin))
    page = await desk.ask("GET", "/console/switches", f"{fresh}; {note_of(refused)}")
    assert said(page) == ["You had been signed out, and nothing was done. What you wrote could not be kept."]
    assert "data-kept" not in page.text


async def test_a_form_of_an_earlier_session_leads_back_to_its_page(desk: Desk) -> None:
    earlier, now = await desk.session(desk.admin), await desk.session(desk.admin)
    form = FORM | {"key": desk.tokens.form_key(earlier.id)}
    answer = await desk.ask("POST", "/console/switches/maintenance", desk.tokens.console(now), data=form)
    assert answer.status_code == 403
    assert '<a href="/console/switches">Go back to the page</a>' in answer.text


async def test_a_maintenance_that_would_be_over_is_refused_beside_its_end_and_what_was_written_stays(
    desk: Desk,
) -> None:
    session = await desk.session(desk.admin)
    answer = await send(
        desk, session, "switches/maintenance", enabled="on", message="Back soon.", expected_end="2020-01-01T12:00"
    )
    assert answer.status_code == 400
    [field] = re.findall(r'<input [^>]*name="expected_end"[^>]*>', answer.text)
    assert 'value="2020-01-01T12:00"' in field
    assert 'aria-invalid="true" aria-describedby="wrong-expected_end"' in field
    assert '<p class="wrong" id="wrong-expected_end">The expected end is in the future, or left out.</p>' in answer.text
    assert 'value="Back soon." data-kept' in answer.text
    assert data(await desk.house.get("/admin/maintenance", desk.admin))["enabled"] is False
