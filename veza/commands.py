"""The ``veza`` command's commands."""

from __future__ import annotations

import argparse
import getpass
import signal
import sys
from collections.abc import Callable
from dataclasses import fields
from datetime import datetime
from importlib.metadata import version

import trio
from pydantic import TypeAdapter, ValidationError

from veza.actors.core.crash import only
from veza.compose import grant, reset_password, switch_maintenance, verify_ledger
from veza.demo import DemoError, demo
from veza.domain.errors import Refusal
from veza.domain.maintenance import UNSENT, MaintenanceChange, check_message
from veza.http.app import create_app, routes
from veza.http.fields import Moment
from veza.listener import CannotListen
from veza.sandbox.config import SandboxRefused
from veza.sandboxes import Ports, serve_sandboxes
from veza.serve import database_dsn, serve
from veza.settings import SettingsError, load
from veza.store.errors import StoreError
from veza.store.migrate import migrate

REFUSALS = (SettingsError, StoreError, CannotListen, DemoError, SandboxRefused, Refusal)

Run = Callable[[argparse.Namespace], int]


def main(arguments: list[str] | None = None) -> int:
    """Run one command; its exit status. What is wrong with the environment is told in one line, not a traceback."""
    options = _parser().parse_args(arguments)
    run: Run = options.run
    try:
        return run(options)
    except REFUSALS as error:
        return _refuse(error)
    except ExceptionGroup as group:
        refused, others = group.split(REFUSALS)
        if refused is None or others is not None:
            raise
        return _refuse(only(refused))
    except KeyboardInterrupt:
        return 130  # what a shell says of a program ended by Ctrl-C


def _refuse(why: Exception) -> int:
    print(f"veza: {why}", file=sys.stderr)
    return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="veza", description="The backend of a music creators' platform.")
    parser.add_argument("--version", action="version", version=f"veza {version('veza')}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, run: Run, says: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=says, description=says)
        added.set_defaults(run=run)
        return added

    command("serve", _serve, "Serve the API until SIGTERM.")
    command("migrate", _migrate, "Bring the database up to date.")
    command("routes", _routes, "List the routes, METHOD PATH a line; needs no database.")
    admin = command("admin", _admin, "Look after accounts from the command line.")
    admin.add_argument("action", choices=["grant", "reset-password"])
    admin.add_argument("email")
    maintenance = command("maintenance", _maintenance, "Turn everyone but admins away, or let them in again.")
    maintenance.add_argument("action", choices=["on", "off"])
    maintenance.add_argument("--message", help="what those who are turned away are told")
    maintenance.add_argument("--until", type=_moment, metavar="TIME", help="its expected end: 2026-02-23T12:00:00Z")
    ledger = command("ledger", _ledger, "Run the ledger's seven invariants; exit 1 if one is broken.")
    ledger.add_argument("action", choices=["verify"])
    sandbox = command("sandbox", _sandbox, "Serve stand-ins for Stripe and Hyperswitch, for development.")
    demo = command("demo", _demo, "Serve a demo: an embedded database, sandbox providers, accounts to try it with.")
    _take_ports(sandbox, "stripe", "hyperswitch")
    _take_ports(demo, *(port.name for port in fields(Ports)))
    return parser


def _take_ports(command: argparse.ArgumentParser, *names: str) -> None:
    for name in names:
        command.add_argument(f"--{name}-port", type=int, default=getattr(Ports, name), metavar="PORT")


def _serve(_options: argparse.Namespace) -> int:
    serve(load())
    return 0


def _migrate(_options: argparse.Namespace) -> int:
    settings = load()
    with database_dsn(settings) as dsn:
        for name in migrate(dsn):
            print(name, flush=True)
    if settings.honcho_process_name:  # honcho ends every process when one ends: stay for the server's sake
        signal.pause()
    return 0


def _routes(_options: argparse.Namespace) -> int:
    for method, path in routes(create_app()):
        print(method, path)
    return 0


def _admin(options: argparse.Namespace) -> int:
    """A new password is read from a terminal, if there is one, or made and printed."""
    with database_dsn(load()) as dsn:
        if options.action == "grant":
            user = trio.run(grant, dsn, options.email)
            print(f"{user.username} is an admin")
            return 0
        typed = getpass.getpass("New password (empty: make one): ") if sys.stdin.isatty() else ""
        password = trio.run(reset_password, dsn, options.email, typed or None)
        print(f"the sessions of {options.email} are ended" + ("" if typed else f"; the new password is {password}"))
    return 0


def _moment(text: str) -> datetime:
    try:
        return TypeAdapter(Moment).validate_python(text)
    except ValidationError:
        raise argparse.ArgumentTypeError("not an RFC 3339 time, as 2026-02-23T12:00:00Z") from None


def _maintenance(options: argparse.Namespace) -> int:
    """Every process that serves the database goes by it within a second, and any that starts later."""
    change = MaintenanceChange(
        options.action == "on",
        UNSENT if options.message is None else check_message(options.message),
        UNSENT if options.until is None else options.until,
    )
    with database_dsn(load()) as dsn:
        after = trio.run(switch_maintenance, dsn, change)
    until = f" until {after.expected_end:%Y-%m-%d %H:%M} UTC" if after.expected_end else ""
    print(f"maintenance is {'on' if after.enabled else 'off'}{until}")
    return 0


def _ledger(_options: argparse.Namespace) -> int:
    settings = load()
    with database_dsn(settings) as dsn:
        findings = trio.run(verify_ledger, settings, dsn)
    if not settings.payouts_configured:
        print("the payout provider was not asked: STRIPE_SECRET_KEY is not set", file=sys.stderr)
    for finding in findings:
        print(f"{finding.invariant}\t{finding.subject}\t{finding.detail}")
    print(f"{len(findings)} findings" if findings else "the ledger balances")
    return 1 if findings else 0


def _sandbox(options: argparse.Namespace) -> int:
    serve_sandboxes(load(), Ports(options.stripe_port, options.hyperswitch_port))
    return 0


def _demo(options: argparse.Namespace) -> int:
    demo(load(), Ports(**{port.name: getattr(options, f"{port.name}_port") for port in fields(Ports)}))
    return 0
