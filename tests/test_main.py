"""The `veza` command, over a real database."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest
import trio
from argon2 import PasswordHasher

from tests.conftest import Server
from tests.sales import Sales
from veza.commands import main
from veza.settings import Settings
from veza.store.bridge import Database
from veza.store.migrate import MIGRATIONS


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, dsn: str) -> None:
    """Only what is set here, and no .env."""
    monkeypatch.chdir(tmp_path)
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("DATABASE_URL", dsn)
    monkeypatch.setenv("VEZA_DATA_DIR", str(tmp_path / "var"))


def add_user(dsn: str, name: str = "ann") -> None:
    with psycopg.connect(dsn) as connection:
        connection.execute(
            "INSERT INTO users (id, username, email, password_hash) VALUES (gen_random_uuid(), %s, %s, '')",
            (name, f"{name}@veza.example"),
        )


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    said = capsys.readouterr().out
    assert ended.value.code == 0
    commands = re.findall(r"^    (\S+)", said, re.MULTILINE)
    assert commands == ["serve", "migrate", "routes", "admin", "maintenance", "ledger", "sandbox", "demo"]


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["nonsense"],
        ["admin", "promote", "a@veza.example"],
        ["ledger"],
        ["maintenance"],
        ["maintenance", "on", "--until", "soon"],
    ],
)
def test_an_unknown_command_ends_with_the_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith("usage: veza")


def test_routes_are_listed_without_a_database(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://nobody@127.0.0.1:1/nothing")
    assert main(["routes"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert all(line.split()[0] in {"GET", "POST", "PUT", "PATCH", "DELETE"} for line in lines)
    assert all(line.split()[1].startswith("/") for line in lines)
    for route in ("GET /healthz", "POST /api/v1/auth/register", "GET /api/v1/admin/actors/tree", "GET /health"):
        assert route in lines


def test_migrate_prints_what_it_applied_and_nothing_the_second_time(
    postgres: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    name = postgres.create(template="template1")
    monkeypatch.setenv("DATABASE_URL", postgres.named(name))
    assert main(["migrate"]) == 0
    assert capsys.readouterr().out.split() == sorted(path.stem for path in MIGRATIONS.glob("*.sql"))
    assert main(["migrate"]) == 0
    assert capsys.readouterr().out == ""
    postgres.drop(name)


def test_admin_grant_makes_an_admin(dsn: str, capsys: pytest.CaptureFixture[str]) -> None:
    add_user(dsn)
    assert main(["admin", "grant", "Ann@veza.example"]) == 0
    assert capsys.readouterr().out == "ann is an admin\n"
    with psycopg.connect(dsn) as connection:
        assert connection.execute("SELECT role FROM users").fetchone() == ("admin",)


def test_admin_reset_password_prints_the_password_that_now_holds(
    dsn: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    add_user(dsn)
    monkeypatch.setattr("sys.stdin.isatty", lambda: False)
    assert main(["admin", "reset-password", "ann@veza.example"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("the sessions of ann@veza.example are ended; the new password is ")
    with psycopg.connect(dsn) as connection:
        (hashed,) = connection.execute("SELECT password_hash FROM users").fetchone() or ("",)
    assert PasswordHasher().verify(hashed, said.split()[-1])


def test_admin_reset_password_takes_a_typed_one_and_does_not_repeat_it(
    dsn: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    add_user(dsn)
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr("getpass.getpass", lambda _prompt: "typed-by-hand-1")
    assert main(["admin", "reset-password", "ann@veza.example"]) == 0
    assert capsys.readouterr().out == "the sessions of ann@veza.example are ended\n"
    with psycopg.connect(dsn) as connection:
        (hashed,) = connection.execute("SELECT password_hash FROM users").fetchone() or ("",)
    assert PasswordHasher().verify(hashed, "typed-by-hand-1")


@pytest.mark.parametrize("action", ["grant", "reset-password"])
@pytest.mark.parametrize("email", ["nobody@veza.example", "no address"])
def test_an_account_that_is_not_there_is_told_in_one_line(
    action: str, email: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin.isatty", lambda: False)
    assert main(["admin", action, email]) == 1
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith("veza: ")
    assert told.err.count("\n") == 1


def maintenance(dsn: str) -> tuple[object, ...]:
    with psycopg.connect(dsn) as connection:
        return connection.execute("SELECT enabled, message, expected_end FROM maintenance").fetchone() or ()


def test_maintenance_is_switched_on_with_words_and_off_without(dsn: str, capsys: pytest.CaptureFixture[str]) -> None:
    until = datetime(2100, 1, 1, 12, tzinfo=UTC)
    words = ["--message", " Back at one. ", "--until", "2100-01-01T13:00:00+01:00"]
    assert main(["maintenance", "on", *words]) == 0
    assert capsys.readouterr().out == "maintenance is on until 2100-01-01 12:00 UTC\n"
    assert maintenance(dsn) == (True, "Back at one.", until)
    assert main(["maintenance", "on"]) == 0
    assert maintenance(dsn) == (True, "Back at one.", until)
    assert main(["maintenance", "on", "--message", ""]) == 0
    assert maintenance(dsn) == (True, None, until)
    capsys.readouterr()
    assert main(["maintenance", "off"]) == 0
    assert capsys.readouterr().out == "maintenance is off\n"
    assert maintenance(dsn) == (False, None, None)
    with psycopg.connect(dsn) as connection:
        audited = connection.execute("SELECT actor_id, action FROM audit_entries").fetchall()
    assert audited == [(None, "maintenance.switch")] * 4


def test_an_end_that_is_over_is_told_in_one_line(dsn: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["maintenance", "on", "--until", "2026-02-23T12:00:00Z"]) == 1
    assert capsys.readouterr().err == "veza: The expected end is in the future, or left out.\n"
    assert maintenance(dsn) == (False, None, None)


def test_a_message_that_cannot_be_shown_is_told_in_one_line(dsn: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["maintenance", "on", "--message", "one\ntwo"]) == 1
    assert capsys.readouterr().err == "veza: The message is one line without control characters.\n"
    assert maintenance(dsn) == (False, None, None)


def test_a_ledger_that_balances_is_told_with_zero(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ledger", "verify"]) == 0
    told = capsys.readouterr()
    assert told.out == "the ledger balances\n"
    assert told.err == "the payout provider was not asked: STRIPE_SECRET_KEY is not set\n"


async def _sell(dsn: str) -> None:
    async with Database.open(dsn, size=1) as db:
        sales = Sales(db)
        await sales.sale(await sales.seller("acct_1"))


def test_a_broken_ledger_is_told_with_one_and_a_line_a_finding(dsn: str, capsys: pytest.CaptureFixture[str]) -> None:
    trio.run(_sell, dsn)
    assert main(["ledger", "verify"]) == 0
    with psycopg.connect(dsn) as connection:
        connection.execute("SET session_replication_role = replica")  # past the triggers, as no one else may
        connection.execute("UPDATE entries SET amount_cents = amount_cents + 1 WHERE amount_cents = 2999")
    capsys.readouterr()
    assert main(["ledger", "verify"]) == 1
    *findings, last = capsys.readouterr().out.splitlines()
    assert findings
    assert all(line.count("\t") == 2 for line in findings)
    assert last == f"{len(findings)} findings"
