"""The composition root: settings, store, gateways, tree, app, and the order in which they stop.

Guarantee 10 of docs/runtime-semantics.md lives here: from SIGTERM to the end takes at most 25 seconds, and whatever
hangs by then is named and left behind.
"""

from __future__ import annotations

import faulthandler
import gc
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import structlog
import trio

from veza import logs
from veza.actors.core import State
from veza.compose import House, house
from veza.listener import DRAIN_SECONDS, listen
from veza.loop_watch import watched
from veza.settings import Settings, make_data_dir
from veza.store.embedded import embedded_dsn
from veza.store.errors import DatabaseUnavailable
from veza.store.migrate import migrate, pending
from veza.supervisors.running import STOP_WITHIN_S, stop

MIGRATED_SECONDS = 15.0
"""How long a start in production waits for `veza migrate`, which a Procfile's runner starts at the same moment."""

YOUNG_OBJECTS = 50_000
"""How many more objects are made than freed before the garbage collector looks. Python's 700 has it take whatever is in
hand just then, a poll of ten thousand streams say, for something that will stay, and then look through everything there
is every dozen seconds: half a second in which nobody is answered. Nearly all garbage here is freed without it; what
waits for it is 10 MB at most."""

log = structlog.get_logger()


@dataclass(frozen=True)
class ShutdownPlan:
    """Seconds of each step of leaving; they add up to less than the 25 that platforms give."""

    notice: float = 2.0  # /readyz says not ready: a balancer that probes each second has seen it
    drain: float = DRAIN_SECONDS
    actors: float = STOP_WITHIN_S
    watchdog: float = 24.0  # one second is left to say what hung


def serve(settings: Settings) -> None:
    """Run the process until SIGTERM or SIGINT. In development the database is brought along and brought up to date.

    Raises DatabaseUnavailable; what ends the process once it runs comes in exception groups.
    """
    logs.configure(level=settings.log_level, log_format=settings.log_format or default_format(settings))
    gc.set_threshold(YOUNG_OBJECTS, *gc.get_threshold()[1:])
    make_data_dir(settings)
    if not settings.payments_configured:
        log.warning("payments_not_configured", missing="HYPERSWITCH_API_KEY")
    if not settings.payouts_configured:
        log.warning("payouts_not_configured", missing="STRIPE_SECRET_KEY")
    if settings.production and not settings.rate_limit_enabled:
        log.warning("requests_not_limited", because="RATE_LIMIT_ENABLED")
    with database_dsn(settings) as dsn:
        if settings.production:
            await_migrations(dsn)
        else:
            migrate(dsn)
        trio.run(partial(run, settings, dsn, on_signal=True))


def await_migrations(dsn: str, seconds: float = MIGRATED_SECONDS) -> None:
    """In production `veza migrate` does it, which may be running beside us. Raises DatabaseUnavailable."""
    until = time.monotonic() + seconds
    while missing := pending(dsn):
        if time.monotonic() > until:
            raise DatabaseUnavailable(f"the database lacks {', '.join(missing)}: run `veza migrate`")
        log.info("awaiting_migrations", missing=len(missing))
        time.sleep(1)


def default_format(settings: Settings) -> logs.Format:
    return "json" if settings.production else "console"


@contextmanager
def database_dsn(settings: Settings) -> Iterator[str]:
    """The configured database, or an embedded one for as long as the block runs."""
    if settings.database_url:
        yield settings.database_url
        return
    with embedded_dsn(settings.veza_data_dir) as dsn:
        yield dsn


async def run(
    settings: Settings,
    dsn: str,
    *,
    plan: ShutdownPlan = ShutdownPlan(),
    on_signal: bool = False,
    leave: trio.Event | None = None,
    task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve until told to leave, by a signal or by ``leave``; reports the base URL once requests are accepted.

    Raises what the root of the tree could not hold, so that the process ends with a non-zero exit.
    """
    leave = trio.Event() if leave is None else leave
    async with house(settings, dsn) as home, watched(home.parts.pulse), trio.open_nursery() as nursery:
        if on_signal:
            await nursery.start(_leave_on_signal, leave)
        await nursery.start(home.run_tree)
        stop_listening, drained = trio.Event(), trio.Event()
        url: str = await nursery.start(partial(_listen, home, settings, plan, stop_listening, drained))
        log.info("serving", url=url)
        task_status.started(url)
        await leave.wait()
        with watchdog(plan.watchdog if on_signal else None):
            await _leave(home, plan, stop_listening, drained)
            nursery.cancel_scope.cancel()


async def _listen(
    home: House,
    settings: Settings,
    plan: ShutdownPlan,
    shutdown: trio.Event,
    drained: trio.Event,
    task_status: trio.TaskStatus[str],
) -> None:
    try:
        await listen(
            home.app,
            settings.host,
            settings.port,
            new_id=home.parts.new_id,
            shutdown=shutdown,
            drain_seconds=plan.drain,
            task_status=task_status,
        )
    finally:
        drained.set()


async def _leave(home: House, plan: ShutdownPlan, stop_listening: trio.Event, drained: trio.Event) -> None:
    """Not ready, then no more accepting, then the drain while the actors live, then the actors, in reverse order."""
    log.info("leaving")
    home.parts.leaving.set()
    await trio.sleep(plan.notice)
    home.parts.stopping.set()
    stop_listening.set()
    with trio.move_on_after(plan.drain + 1):  # a client that takes no byte is not waited for any longer
        await drained.wait()
    log.info("drained")
    stop(home.tree, within=plan.actors)
    await home.tree.wait(home.tree.path, State.STOPPED)
    log.info("left")


async def _leave_on_signal(leave: trio.Event, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        task_status.started()
        async for number in signals:
            log.info("signal", name=signal.Signals(number).name)
            leave.set()


@contextmanager
def watchdog(seconds: float | None, end: Callable[[int], None] = os._exit) -> Iterator[None]:
    """Ends the process if the block takes longer than ``seconds``: says where every thread stands, exits with 1.

    A thread of its own, because what hangs may be the event loop.
    """
    if seconds is None:
        yield
        return

    def bark() -> None:
        log.error("shutdown_hung", after_seconds=seconds)
        faulthandler.dump_traceback(sys.stderr)
        end(1)

    timer = threading.Timer(seconds, bark)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
