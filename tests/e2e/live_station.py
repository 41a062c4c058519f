"""A whole live platform: `veza serve`, nginx with its RTMP module as it is shipped, and ffmpeg for encoders."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import trio

from tests.house import free_port
from tests.processes import clean_environment, veza
from tests.sandbox.running import NO_CERTIFICATES
from veza.rtmp_server import RtmpServer

PASSWORD = "correct-horse-1"
HOOK_TOKEN = "hooks-of-the-tests-1"
TIMING = {"LIVE_POLL_SECONDS": "0.25", "LIVE_STALL_SECONDS": "1.5", "LIVE_GRACE_SECONDS": "4"}
START_SECONDS = 30.0
CHANGE_SECONDS = 15.0  # what any change of state takes here, on a busy machine

Json = dict[str, Any]

PICTURES = ("-f", "lavfi", "-i", "testsrc2=size=160x90:rate=10")
SOUND = ("-f", "lavfi", "-i", "sine=frequency=440:sample_rate=44100")
H264 = ("-c:v", "libx264", "-preset", "ultrafast", "-g", "10", "-pix_fmt", "yuv420p")
AAC = ("-c:a", "aac", "-b:a", "64k")


@dataclass
class Encoder:
    """An ffmpeg that publishes a test picture and a tone until it is stopped."""

    process: subprocess.Popen[bytes]

    @property
    def running(self) -> bool:
        return self.process.poll() is None

    def freeze(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    async def ended(self) -> int:
        """Its exit status once it was put off, or has given up."""
        with trio.fail_after(CHANGE_SECONDS):
            while self.running:  # noqa: ASYNC110 - another process's end is no event of ours
                await trio.sleep(0.05)
        return self.process.returncode


@dataclass
class Creator:
    """Somebody with a stream, who talks to the platform as anyone does."""

    http: httpx.AsyncClient
    token: str
    stream_id: str
    key: str
    rtmp_url: str
    encoders: list[Encoder] = field(default_factory=list)

    def publish(self, key: str | None = None, *, sound_only: bool = False) -> Encoder:
        """Begin to publish; whether it is let in is seen by what becomes of it."""
        sources = (*SOUND, *AAC) if sound_only else (*PICTURES, *SOUND, *H264, *AAC)
        command = ["ffmpeg", "-nostdin", "-loglevel", "error", "-re", *sources, "-f", "flv"]
        target = f"{self.rtmp_url}/{key or self.key}"
        encoder = Encoder(subprocess.Popen([*command, target], stderr=subprocess.DEVNULL))
        self.encoders.append(encoder)
        return encoder

    async def call(self, method: str, path: str, **options: Any) -> Any:
        headers = {"Authorization": f"Bearer {self.token}"}
        answer = await self.http.request(method, path, headers=headers, **options)
        return answer.raise_for_status().json()["data"]

    async def status(self) -> Json:
        """What anyone polls, signed in or not."""
        answer = await self.http.get(f"/live/streams/{self.stream_id}/status")
        found: Json = answer.raise_for_status().json()["data"]
        return found

    async def until(self, state: str) -> Json:
        return await self.until_so(lambda status: status["state"] == state, state)

    async def until_so(self, so: Callable[[Json], bool], what: str) -> Json:
        status: Json = {}
        with trio.move_on_after(CHANGE_SECONDS):
            while not so(status := await self._status_or_none()):  # noqa: ASYNC110 - polled, as players do
                await trio.sleep(0.05)
            return status
        raise AssertionError(f"not {what} within {CHANGE_SECONDS:g} s, but {status}")

    async def _status_or_none(self) -> Json:
        try:
            return await self.status()
        except (httpx.TransportError, httpx.HTTPStatusError):
            return {"state": None}  # it is just being restarted

    async def sessions(self) -> list[Json]:
        found: list[Json] = (await self.call("GET", f"/live/streams/{self.stream_id}/sessions"))["sessions"]
        return found


@dataclass
class Station:
    url: str
    rtmp: RtmpServer
    environment: dict[str, str]
    log: Path
    veza: subprocess.Popen[bytes]
    nginx: subprocess.Popen[bytes]
    names: Iterator[int]
    keys: list[str] = field(default_factory=list)

    @asynccontextmanager
    async def creator(self) -> AsyncIterator[Creator]:
        """A new account with a titled stream; its encoders end with the block."""
        async with httpx.AsyncClient(base_url=f"{self.url}/api/v1", timeout=20, verify=NO_CERTIFICATES) as http:
            name = f"creator-{next(self.names)}"
            body = {"username": name, "email": f"{name}@example.com", "password": PASSWORD}
            token = (await http.post("/auth/register", json=body)).raise_for_status().json()["data"]["access_token"]
            somebody = Creator(http, token, "", "", "")
            stream = await somebody.call("POST", "/live/streams", json={"title": f"The show of {name}"})
            shown = await somebody.call("GET", "/live/streams/me/key")
            assert shown["stream_id"] == stream["id"]
            somebody.stream_id, somebody.key, somebody.rtmp_url = stream["id"], shown["stream_key"], shown["rtmp_url"]
            self.keys.append(somebody.key)
            try:
                yield somebody
            finally:
                for encoder in somebody.encoders:
                    encoder.thaw()
                    encoder.kill()

    @asynccontextmanager
    async def beside(self) -> AsyncIterator[httpx.AsyncClient]:
        """A second process of Veza over the same database and ingest server, and a client of its API."""
        port = free_port()
        url = f"http://127.0.0.1:{port}"
        second = start(veza("serve"), self.log, self.environment | {"PORT": str(port)})
        try:
            until(f"{url}/readyz", second, self.log)
            async with httpx.AsyncClient(base_url=f"{url}/api/v1", timeout=20, verify=NO_CERTIFICATES) as http:
                yield http
        finally:
            second.kill()
            second.wait()

    def start_veza(self) -> None:
        self.veza = start(veza("serve"), self.log, self.environment)
        self.await_ready()

    def kill_veza(self) -> None:
        self.veza.kill()
        self.veza.wait()

    def start_nginx(self) -> None:
        self.nginx = start(self.rtmp.command(), self.log, dict(os.environ))
        until(f"http://127.0.0.1:{self.rtmp.stat_port}/stat", self.nginx, self.log)

    def kill_nginx(self) -> None:
        """The whole server at once, as a machine that is gone: nobody is told."""
        os.killpg(self.nginx.pid, signal.SIGKILL)
        self.nginx.wait()

    def await_ready(self) -> None:
        until(f"{self.url}/readyz", self.veza, self.log)

    def said(self) -> str:
        return self.log.read_text(errors="replace")

    def stat(self) -> str:
        return httpx.get(f"http://127.0.0.1:{self.rtmp.stat_port}/stat", verify=NO_CERTIFICATES).text


def start(command: tuple[str, ...] | list[str], log: Path, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    with log.open("ab") as out:
        return subprocess.Popen(command, stdout=out, stderr=out, env=environment, start_new_session=True)


def until(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until a process answers with success."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if httpx.get(url, verify=NO_CERTIFICATES).is_success:
                return
        except httpx.TransportError:
            pass  # it does not listen yet
        time.sleep(0.05)
    raise AssertionError(f"{url} does not answer:\n{log.read_text()[-4000:]}")


@contextmanager
def open_station(dsn: str, directory: Path, **settings: str) -> Iterator[Station]:
    port, log = free_port(), directory / "station.log"
    url = f"http://127.0.0.1:{port}"
    rtmp = RtmpServer(
        directory / "rtmp",
        rtmp_port=free_port(),
        play_port=free_port(),
        hls_port=free_port(),
        stat_port=free_port(),
        hook_url=f"{url}/api/v1/hooks/rtmp/{HOOK_TOKEN}",
    )
    environment = clean_environment() | {
        "PORT": str(port),
        "VEZA_DATA_DIR": str(directory / "var"),
        "DATABASE_URL": dsn,
        "LOG_FORMAT": "json",
        "LOG_LEVEL": "debug",
        "INGEST_HOOK_TOKEN": HOOK_TOKEN,
        **rtmp.environment,
        **TIMING,
        **settings,
    }
    nginx = start(rtmp.command(), log, dict(os.environ))
    served = start(veza("serve"), log, environment)
    station = Station(url, rtmp, environment, log, served, nginx, iter(range(1, 100)))
    try:
        until(f"http://127.0.0.1:{rtmp.stat_port}/stat", nginx, log)
        station.await_ready()
        yield station
    finally:
        for process in (station.veza, station.nginx):
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
