"""Ten thousand streams on air in one process: what a session weighs, what a poll costs, how fast a status is told.

The sessions are real ones under their supervisor, their rows in memory. The ingest server is a process that writes
nginx-rtmp's stat page, of every stream and of what it is relayed to, each time with more bytes. It is polled every two
seconds throughout, while statuses are asked for as well. What they are compared with is one bare Quart-Trio route on
Hypercorn that answers with the same bytes. Our access log is written as always, to /dev/null.
"""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from email.utils import formatdate
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from random import Random
from statistics import median, quantiles
from time import perf_counter, process_time, time
from types import SimpleNamespace
from typing import Any, Final
from uuid import UUID

import httpx
import psutil
import trio
from hypercorn.config import Config
from hypercorn.trio import serve
from quart import Response
from quart_trio import QuartTrio

from bench.actors import resident_kb
from bench.load import Connection
from bench.measure import Comparison, Measure, interleaved
from veza import logs
from veza.actors.ingest_poller import IngestPoller
from veza.actors.live import Live
from veza.actors.session_holder import SessionHolder, may_be_elsewhere
from veza.actors.session_row import Studio
from veza.actors.stream_session import SessionRef, StreamSessionActor
from veza.domain.audience import Audience
from veza.domain.ids import system_mint, utc_now
from veza.domain.ingest import Watch
from veza.domain.live import START_SECONDS, Permission, StreamSession, StreamState, Timing
from veza.domain.stream_keys import KeyClaim
from veza.gateways.ingest.nginx_rtmp import NginxRtmp
from veza.http.app import create_app
from veza.http.parts import ConfigSummary, Parts
from veza.listener import listen
from veza.serve import YOUNG_OBJECTS
from veza.store.live import Elsewhere
from veza.supervisors import dynamic, one_for_one, permanent, running

STREAMS: Final = 10_000
MEMORY_AIM, CPU_AIM, LATENCY_AIM, RATE_AIM = 15.0, 0.5, 1.5, 1.0
SETTLED: Final = 5  # polls after which nothing of coming on air is left: ten seconds, a bitrate's window
POLLS: Final = 10  # that are measured
TICK_SECONDS: Final = 0.002  # how often the loop is asked whether it still turns
CLIENTS: Final = 500
ROUNDS: Final = 3
SECONDS: Final = 4.0  # a run: two polls
EVERY_SECONDS: Final = 5.0  # the `poll_after_ms` of a live stream
FIGURES_KNOWN_SECONDS: Final = 6.0  # a version that tells of the first viewers is out by then
SETUP_SECONDS: Final = 60  # for those that come on air at once
AT_ONCE: Final = 2_000  # come on air: what that takes must not hide in what is there afterwards
APPLICATION: Final = "ingest"

_random = Random(1)
IDS: Final = tuple(UUID(int=_random.getrandbits(128), version=4) for _ in range(STREAMS))
ASKED: Final = IDS[:: STREAMS // CLIENTS]  # one by each client


def run() -> list[Measure]:
    """The benchmark of this module."""
    with _process("ingest") as ingest:
        url = ingest.read()
        weights = []
        for _ in range(2):
            with _process("memory", url) as weighed:
                weights.append(weighed.tell())
        with _process("rounds", url) as polled:
            rounds = polled.tell()
        with _process("served", url) as ours:
            port = int(ours.read())
            body = httpx.get(f"http://127.0.0.1:{port}{_path(ASKED[0])}").raise_for_status().text
            with _process("bare", body) as bare:
                statuses = list(_compare(ours, port, bare, int(bare.read())))
    return [_weight(weights), _poll(rounds), *statuses]


def _weight(found: list[dict[str, float]]) -> Measure:
    weight = max(each["kb"] for each in found)
    return Measure(
        name="memory of a live session",
        value=weight,
        unit="KB",
        aim=f"<= {MEMORY_AIM:g} KB",
        met=weight <= MEMORY_AIM,
        aa_spread=weight / min(each["kb"] for each in found) - 1,
        detail=f"{STREAMS:,} of them, with their watches and all that is read of a poll",
    )


def _poll(found: dict[str, Any]) -> Measure:
    spent = found["cpu"]
    return Measure(
        name=f"CPU of a poll of {STREAMS:,} streams",
        value=median(spent),
        unit="s",
        aim=f"<= {CPU_AIM:g} s",
        met=median(spent) <= CPU_AIM,
        aa_spread=median(abs(one / other - 1) for one, other in pairwise(spent)),
        detail=f"at most {max(spent):.2f} s; the loop stands still for {found['pause'] * 1000:.0f} ms at most",
    )


def _compare(ours: Process, port: int, bare: Process, bare_port: int) -> Iterator[Measure]:
    asked, bare_asked = [_request(each) for each in ASKED], [_bare_request()] * CLIENTS
    for name, every in (("each asking every five seconds", EVERY_SECONDS), ("each asking without a pause", 0.0)):
        a, b = partial(_p99, port, asked, every), partial(_p99, bare_port, bare_asked, every)
        yield _latency(name, interleaved(a, b, ROUNDS))
    etags = _etags(port)
    requests = [_request(each, f"If-None-Match: {etag}\r\n") for each, etag in zip(ASKED, etags, strict=True)]
    found = interleaved(
        lambda: _per_cpu_second(ours, port, requests, 304),
        lambda: _per_cpu_second(bare, bare_port, bare_asked, 200),
        ROUNDS,
    )
    yield Measure(
        name="304s a second against a bare route's answers",
        value=found.ratio,
        unit="x",
        aim=f">= {RATE_AIM:g}x",
        met=found.ratio >= RATE_AIM,
        aa_spread=found.aa_spread,
        detail=f"{found.a:,.0f} against {found.b:,.0f} a CPU second, {CLIENTS} connections; polls go on",
    )


def _latency(name: str, found: Comparison) -> Measure:
    return Measure(
        name=f"p99 of a status, {CLIENTS} clients {name}",
        value=found.ratio,
        unit="x",
        aim=f"<= {LATENCY_AIM:g}x",
        met=found.ratio <= LATENCY_AIM,
        aa_spread=found.aa_spread,
        detail=f"{found.a * 1000:.1f} against a bare route's {found.b * 1000:.1f} ms, {STREAMS:,} streams on air",
    )


# -- those who ask -----------------------------------------------------------------------------------------------------


def _path(stream_id: UUID) -> str:
    return f"/api/v1/live/streams/{stream_id}/status"


def _request(stream_id: UUID, headers: str = "") -> bytes:
    return f"GET {_path(stream_id)} HTTP/1.1\r\nHost: bench\r\n{headers}\r\n".encode()


def _bare_request() -> bytes:
    """Bare of everything, a path to be taken apart as well."""
    return b"GET /status HTTP/1.1\r\nHost: bench\r\n\r\n"


def _etags(port: int) -> list[str]:
    """What to ask with for a 304, now that every stream has the viewer that it will have."""
    with httpx.Client(base_url=f"http://127.0.0.1:{port}") as client:
        del client.headers[
            "User-Agent"
        ]  # as those who ask then: another would be another viewer, until it is forgotten
        for _ in range(2):
            trio.run(trio.sleep, FIGURES_KNOWN_SECONDS)
            etags = [client.get(_path(each)).raise_for_status().headers["etag"] for each in ASKED]
    return etags


def _p99(port: int, requests: list[bytes], every: float) -> float:
    return quantiles(trio.run(_ask, port, requests, every, max(SECONDS, 2 * every), 200), n=100)[98]


def _per_cpu_second(server: Process, port: int, requests: list[bytes], status: int) -> float:
    before = server.cpu()
    taken = trio.run(_ask, port, requests, 0.0, SECONDS, status)
    return len(taken) / (server.cpu() - before)


async def _ask(port: int, requests: list[bytes], every: float, seconds: float, status: int) -> list[float]:
    """A connection for each request, asking ``every`` so many seconds; how long each answer took.

    That is from the moment it was due, so that one that is late makes no other look early.
    """
    taken: list[float] = []
    connections = [Connection(port, request) for request in requests]
    for connection in connections:  # the first is asked while connecting, one after the other
        assert await connection.ask() == status
    began = trio.current_time()

    async def one(number: int, connection: Connection) -> None:
        due = began + number / len(connections) * every
        while due < began + seconds:
            await trio.sleep_until(due)
            assert await connection.ask() == status
            taken.append(trio.current_time() - due)
            due = due + every if every else trio.current_time()

    async with trio.open_nursery() as nursery:
        for number, connection in enumerate(connections):
            nursery.start_soon(one, number, connection)
    for connection in connections:
        await connection.aclose()
    return taken


# -- the processes -----------------------------------------------------------------------------------------------------


class Process:
    """A part of this benchmark in a process of its own, which says what it found a line at a time."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self._measured = psutil.Process(process.pid)

    def read(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def tell(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.read())
        return found

    def cpu(self) -> float:
        spent = self._measured.cpu_times()
        return float(spent.user + spent.system)


@contextmanager
def _process(*arguments: str) -> Iterator[Process]:
    with subprocess.Popen(
        [sys.executable, "-m", "bench.live", *arguments], stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield Process(process)
        finally:
            process.kill()


class Rows:
    """Sessions' rows, kept by nobody: there is one process, and it forgets nothing."""

    def __init__(self) -> None:
        self._mine: list[UUID] = []

    async def take(self, stream_id: UUID) -> StreamSession | None:
        await trio.lowlevel.checkpoint()
        return None

    async def accept(self, decide: Callable[[Permission], StreamSession], stream_id: UUID) -> StreamSession | None:
        await trio.lowlevel.checkpoint()
        self._mine.append(stream_id)
        return decide(Permission(1, 0, True))

    async def save(self, *_: object) -> bool:
        await trio.lowlevel.checkpoint()
        return True

    async def end(self, *_: object) -> bool:
        await trio.lowlevel.checkpoint()
        return True

    async def seen(self, viewers: Mapping[UUID, int] | None) -> Elsewhere:
        await trio.lowlevel.checkpoint()
        return Elsewhere((), {}, {}, alone=True)

    async def take_lapsed(self, limit: int) -> list[StreamSession]:
        await trio.lowlevel.checkpoint()
        return []

    async def mine(self) -> list[UUID]:
        await trio.lowlevel.checkpoint()
        return self._mine

    async def note(self, *_: object) -> None:
        await trio.lowlevel.checkpoint()

    async def leave(self) -> None:
        await trio.lowlevel.checkpoint()


class TimedPoller(IngestPoller):
    """Says what each of its rounds took of the process's CPU."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.spent: list[float] = []

    async def run_once(self) -> None:
        began = process_time()
        await super().run_once()
        self.spent.append(process_time() - began)

    async def rounds(self, many: int) -> list[float]:
        """The next so many."""
        before = len(self.spent)
        while len(self.spent) < before + many:  # noqa: ASYNC110 - nobody tells of it
            await trio.sleep(0.05)
        return self.spent[before:]


@asynccontextmanager
async def _on_air(url: str) -> AsyncIterator[tuple[Live, TimedPoller, float]]:
    """All streams live, their playlists seen, and nothing left to do but to poll; with the KB that a session takes."""
    new_id, watches, audience, rows = system_mint(), dict[UUID, Watch](), Audience(), Rows()
    peaks, taken = dict[UUID, int](), dict[UUID, StreamSession]()
    async with NginxRtmp.open(
        stat_url=f"{url}/stat",
        control_url=f"{url}/control",
        hls_base_url=f"{url}/hls",
        application=APPLICATION,
        timeout=5,
    ) as server:
        studio = Studio(rows, server, utc_now, new_id, Timing(), watches=watches, peaks=peaks, taken=taken)

        def session(stream_id: UUID) -> StreamSessionActor:
            return StreamSessionActor(stream_id, studio)

        sessions = dynamic("sessions", session, limit=STREAMS)
        holder = permanent("holder", lambda: SessionHolder(rows, sessions, audience, watches, peaks, taken))
        timed = TimedPoller(server, sessions, partial(may_be_elsewhere, holder.ref), studio.timing, watches)
        live = Live(sessions, audience, watches, (poller := permanent("ingest", lambda: timed)).ref, holder.ref)
        await _carry(url, 0)
        async with running(one_for_one("live", holder, sessions, poller), clock=utc_now, random=Random(1)):
            await timed.rounds(2)  # whatever reading a page keeps for itself is there by now
            before = resident_kb()
            for first in range(0, STREAMS, AT_ONCE):
                began = trio.current_time()
                with trio.fail_after(SETUP_SECONDS):
                    for number, stream_id in enumerate(IDS[first : first + AT_ONCE]):
                        await live.publish(KeyClaim(stream_id, 1), str(first + number))
                    await _carry(url, first + AT_ONCE)
                    while not all(_plays(ref) for _, ref in sessions.children()):
                        await timed.rounds(1)
                await trio.sleep_until(began + START_SECONDS)
            await timed.rounds(SETTLED)
            yield live, timed, (resident_kb() - before) / STREAMS


async def _carry(url: str, many: int) -> None:
    await trio.to_thread.run_sync(httpx.get, f"{url}/carry/{many}")


def _plays(ref: SessionRef) -> bool:
    return ref.snapshot is not None and ref.snapshot.state is StreamState.LIVE and ref.snapshot.ready


async def _memory(url: str) -> None:
    async with _on_air(url) as (_, _, kb):
        print(json.dumps({"kb": kb}), flush=True)
        await trio.sleep_forever()  # until it is killed: ending ten thousand sessions is not what is measured


async def _rounds(url: str) -> None:
    async with _on_air(url) as (_, poller, _), trio.open_nursery() as nursery:
        cpu = await poller.rounds(POLLS)
        late: list[float] = []
        nursery.start_soon(_tick, late)  # not before: it takes CPU itself
        await poller.rounds(POLLS)
        print(json.dumps({"cpu": cpu, "pause": max(late)}), flush=True)
        await trio.sleep_forever()


async def _tick(late: list[float]) -> None:
    while True:
        due = trio.current_time() + TICK_SECONDS
        await trio.sleep_until(due)
        late.append(trio.current_time() - due)


async def _served(url: str) -> None:
    app, new_id = create_app(), system_mint()
    async with _on_air(url) as (live, _, _), trio.open_nursery() as nursery:
        app.bind(
            Parts.only(
                clock=utc_now,
                new_id=new_id,
                config=ConfigSummary(True, True, 0.1, True),
                checks={},
                root_alive=lambda: True,
                refs=SimpleNamespace(live=live),
            )
        )
        at: str = await nursery.start(partial(listen, app, "127.0.0.1", 0, new_id=new_id, shutdown=trio.Event()))
        print(at.rpartition(":")[2], flush=True)


async def _bare(body: str) -> None:
    app, config = QuartTrio("bare"), Config()

    @app.get("/status")
    async def status() -> Response:
        return Response(body, content_type="application/json")

    config.bind = ["127.0.0.1:0"]
    config.errorlog = None
    async with trio.open_nursery() as nursery:
        [at] = await nursery.start(partial(serve, app, config))
        print(at.rpartition(":")[2], flush=True)


# -- the ingest server -------------------------------------------------------------------------------------------------

COUNT: Final = b"@" * 10  # stands for the digits that advance
MEDIA: Final = tuple(
    f"<meta><video><width>{width}</width><height>{height}</height><frame_rate>{rate}</frame_rate><codec>H264</codec>"
    "<profile>High</profile><compat>192</compat><level>3.1</level></video><audio><codec>AAC</codec><profile>LC</profile>"
    "<channels>2</channels><sample_rate>48000</sample_rate></audio></meta>"
    for width, height in ((1280, 720), (1920, 1080))
    for rate in (30, 60)
)


def _client(number: int, *, publishing: bool) -> str:
    return (
        f"<client><id>{number}</id><address>127.0.0.1</address><time>6480</time>"
        f"<flashver>FMLE/3.0 (compatible; Lavf59.27</flashver><swfurl></swfurl><dropped>0</dropped><avsync>23</avsync>"
        f"<timestamp>6246</timestamp>{'<publishing/>' if publishing else ''}<active/></client>\n"
    )


def _stream(number: int, *clients: str) -> str:
    return (
        f"<stream>\n<name>{IDS[number]}</name>\n<time>6291</time><bw_in>2500000</bw_in>\n"
        f"<bytes_in>{number + 1}{COUNT.decode()}</bytes_in>\n<bw_out>0</bw_out>\n<bytes_out>0</bytes_out>\n"
        f"<bw_audio>0</bw_audio>\n<bw_video>0</bw_video>\n{''.join(clients)}{MEDIA[number % len(MEDIA)]}\n"
        f"<nclients>{len(clients)}</nclients>\n<publishing/>\n<active/>\n</stream>\n"
    )


def _template(many: int) -> bytes:
    """A page as nginx-rtmp writes it for the application that is published to, and for the one it pushes to."""
    published = (_stream(n, _client(STREAMS + n, publishing=False), _client(n, publishing=True)) for n in range(many))
    relayed = (_stream(n, _client(2 * STREAMS + n, publishing=True)) for n in range(many))
    applications = "".join(
        f"<application>\n<name>{name}</name>\n<live>\n{''.join(streams)}<nclients>{many}</nclients>\n</live>\n"
        "</application>\n"
        for name, streams in ((APPLICATION, published), ("play", relayed))
    )
    return f"<server>\n{applications}</server>\n</rtmp>\n".encode()


def _ingest() -> None:
    """``/carry/<n>``: from now on the page has so many streams."""
    began, carried = int(time()), [_template(0)]
    playlist = b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1.000,\n0.ts\n"

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def handle(self) -> None:
            with suppress(ConnectionError):  # its client was killed
                super().handle()

        def do_GET(self) -> None:
            now = int(time())
            body = playlist
            if self.path.startswith("/carry/"):
                carried[0] = _template(int(self.path.removeprefix("/carry/")))
            elif self.path == "/stat":
                head = f"<rtmp>\n<pid>{os.getpid()}</pid>\n<uptime>{now - began}</uptime>\n"
                body = head.encode() + carried[0].replace(COUNT, b"%010d" % round(perf_counter() * 100_000))
            self.send_response_only(200)
            self.send_header("Date", formatdate(now, usegmt=True))
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Nobody reads it."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    print(f"http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()


def main(role: str, given: str = "") -> None:
    if role == "ingest":
        _ingest()
    gc.set_threshold(YOUNG_OBJECTS, *gc.get_threshold()[1:])  # as a served process has it
    roles = {"memory": _memory, "rounds": _rounds, "served": _served, "bare": _bare}
    with open(os.devnull, "w", buffering=1) as nobody:
        logs.configure(log_format="json", out=nobody)
        trio.run(roles[role], given)


if __name__ == "__main__":
    main(*sys.argv[1:])
