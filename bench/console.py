"""What it costs to have the console's page of actors open on a tree of a thousand, each of which does something.

The server is a process of its own, with its real listener, edge and page; whose session it is it is told without a
database. What is compared is the share of a core that the process takes while somebody looks and while nobody does.
"""

from __future__ import annotations

import socket
from statistics import median
from threading import Thread
from time import perf_counter, sleep

from bench.http import Server, server
from bench.measure import Measure
from veza.domain.accounts import begin_session
from veza.domain.ids import system_mint, utc_now
from veza.http.console.entry import COOKIE
from veza.http.tokens import Tokens

AIM = 0.05
ROUNDS = 5
SECONDS = 8.0  # four looks
ACTORS = 1000
KEY = b"k" * 32

OURS = f"""
from random import Random
from types import SimpleNamespace
import trio
from veza import logs
from veza.actors.core import Actor, Mailbox, Refuse, Tell
from veza.domain.accounts import Role, User
from veza.domain.ids import system_mint, utc_now
from veza.http.app import create_app
from veza.http.parts import ConfigSummary, Parts
from veza.http.tokens import Tokens
from veza.listener import listen
from veza.supervisors import Restart, dynamic, one_for_one, running

class Note(Tell):
    pass

class Busy(Actor[Note, None]):
    mailbox = Mailbox(16, full=Refuse, why="one message a second")

    async def handle(self, message):
        return None

new_id = system_mint()
admin = User(new_id(), "olga", "olga@veza.example", Role.ADMIN, utc_now(), utc_now())
crowd = dynamic("crowd", lambda _key: Busy(), limit={ACTORS}, restart=Restart.TEMPORARY)
root = one_for_one("bench", crowd)

async def user_of(*_):
    return admin

async def keep_busy(refs):
    while True:
        for ref in refs:
            ref.tell(Note())
            await trio.sleep(1 / len(refs))

async def main():
    logs.configure(log_format="json", out=open("/dev/null", "w", buffering=1))
    tokens = Tokens({KEY!r}, utc_now, new_id)
    app = create_app()
    app.bind(Parts.only(clock=utc_now, new_id=new_id, checks={{}}, root_alive=lambda: True, tree=root.view,
                        tokens=tokens, sessions=SimpleNamespace(user_of=user_of),
                        config=ConfigSummary(True, True, 0.1, True)))
    async with running(root, clock=utc_now, random=Random(1)), trio.open_nursery() as nursery:
        refs = [crowd.start(number) for number in range({ACTORS})]
        nursery.start_soon(keep_busy, refs)
        url = await nursery.start(lambda task_status: listen(
            app, "127.0.0.1", 0, new_id=new_id, shutdown=trio.Event(), task_status=task_status))
        print(url, flush=True)

trio.run(main)
"""


class Reader:
    """A browser that has the page open, as far as the server notices: it takes what comes."""

    def __init__(self, port: int) -> None:
        new_id = system_mint()
        token = Tokens(KEY, utc_now, new_id).console(begin_session(new_id(), new_id, utc_now()))
        self._socket = socket.create_connection(("127.0.0.1", port))
        request = f"GET /console/live/actors HTTP/1.1\r\nHost: bench\r\nCookie: {COOKIE}={token}\r\n\r\n"
        self._socket.sendall(request.encode())
        self.taken = 0
        self._thread = Thread(target=self._take, daemon=True)
        self._thread.start()

    def _take(self) -> None:
        while received := self._socket.recv(1 << 20):
            self.taken += len(received)

    def leave(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._socket.close()


def run() -> list[Measure]:
    """The benchmark of this module."""
    costs, strays, idle, sent = [], [], [], 0
    with server(OURS) as ours:
        sleep(SECONDS)  # for rates to become what they will be
        for _ in range(ROUNDS):
            before = _share(ours)
            reader = Reader(ours.port)
            sleep(SECONDS / 2)  # the first look sends everything
            first = reader.taken
            looked_at = _share(ours)
            sent = reader.taken - first
            reader.leave()
            after = _share(ours)
            costs.append(looked_at - (before + after) / 2)
            strays.append(abs(before - after))
            idle.append(after)
    cost = median(costs)
    return [
        Measure(
            name=f"the console's page of {ACTORS:,} busy actors",
            value=100 * cost,
            unit="% of a core",
            aim=f"<= {100 * AIM:.0f}",
            met=cost <= AIM,
            aa_spread=median(strays),
            detail=f"beside {100 * median(idle):.1f} % without, {sent / SECONDS / 1e3:,.0f} kB a second sent",
        )
    ]


def _share(of: Server) -> float:
    """Of a core, that the process takes just now."""
    began, before = perf_counter(), _cpu(of)
    sleep(SECONDS)
    return (_cpu(of) - before) / (perf_counter() - began)


def _cpu(of: Server) -> float:
    spent = of.process.cpu_times()
    return float(spent.user + spent.system)
