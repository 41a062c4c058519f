"""Whole processes under test: `veza serve` and `veza sandbox` as a platform would start them, and ways to hurt them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import trio

from tests.house import free_port
from veza.settings import Settings

START_SECONDS = 60.0  # interpreter, imports, migrations and the first connection, on a machine that is very busy


@dataclass
class Program:
    """A started process, its output kept line by line."""

    process: trio.Process
    lines: list[str] = field(default_factory=list)
    silent: bool = False  # it has closed its output: ended, or about to
    _news: trio.Event = field(default_factory=trio.Event)

    @property
    def pid(self) -> int:
        return self.process.pid

    def hear(self, lines: list[str]) -> None:
        self.lines.extend(lines)
        self._wake()

    def fall_silent(self) -> None:
        self.silent = True
        self._wake()

    def _wake(self) -> None:
        self._news.set()
        self._news = trio.Event()

    async def line(self, words: str) -> str:
        """The first line with those words, once it is there. Fails with the output if it can't come any more."""
        while True:
            for line in self.lines:
                if words in line:
                    return line
            assert not self.silent, f"never said {words!r}: " + "\n".join(self.lines[-40:])
            await self._news.wait()

    async def ended(self) -> int:
        """Its exit status, once it has ended and all it said was heard."""
        status = await self.process.wait()
        while not self.silent:
            await self._news.wait()
        return status

    def logged(self, event: str) -> list[dict[str, Any]]:
        """The structured log lines of one event."""
        found = (json.loads(line) for line in self.lines if line.startswith("{"))
        return [line for line in found if line.get("event") == event]

    def terminate(self) -> None:
        self.process.terminate()

    async def kill(self) -> None:
        """kill -9: nothing of it runs any further."""
        self.process.kill()
        await self.process.wait()

    def freeze(self) -> None:
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        os.kill(self.pid, signal.SIGCONT)


def clean_environment() -> dict[str, str]:
    """This environment without any setting of Veza's."""
    names = {name.upper() for name in Settings.model_fields}
    return {name: value for name, value in os.environ.items() if name not in names}


@asynccontextmanager
async def program(*arguments: str, environment: Mapping[str, str], cwd: Path | None = None) -> AsyncIterator[Program]:
    """A process for the length of the block; whatever is left of it then is killed."""
    async with trio.open_nursery() as nursery:
        run = partial(
            trio.run_process,
            arguments,
            env=dict(environment),
            cwd=cwd,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
            capture_stdout=False,
        )
        process: trio.Process = await nursery.start(run)
        started = Program(process)
        nursery.start_soon(_collect, started)
        try:
            yield started
        finally:
            if process.returncode is None:
                process.send_signal(signal.SIGCONT)  # a frozen one would hold its end
                process.kill()
            with trio.CancelScope(shield=True):
                await process.wait()
            nursery.cancel_scope.cancel()


async def _collect(started: Program) -> None:
    rest = b""
    if started.process.stdout is None:
        raise LookupError("the process was started without a pipe")
    async for chunk in started.process.stdout:
        *whole, rest = (rest + chunk).split(b"\n")
        started.hear([line.decode(errors="replace") for line in whole])
    if rest:
        started.hear([rest.decode(errors="replace")])
    started.fall_silent()


SECRETS = {
    "JWT_SECRET": "jwt-of-the-tests-" + "j" * 20,
    "ADMIN_PASSWORD": "admin-of-the-tests-1",
    "HYPERSWITCH_API_KEY": "snd_of_the_tests_1",
    "HYPERSWITCH_WEBHOOK_SECRET": "hooks-of-the-tests-1",
    "STRIPE_SECRET_KEY": "sk_test_of_the_tests_1",
    "STRIPE_WEBHOOK_SECRET": "whsec_of_the_tests_1",
}


def production(dsn: str, directory: Path, **settings: object) -> dict[str, str]:
    """An environment that a start in production accepts; nobody is at the providers' addresses."""
    chosen = {
        "ENVIRONMENT": "production",
        "HOST": "127.0.0.1",
        "APP_DOMAIN": "https://veza.example",
        "VEZA_DATA_DIR": directory / "var",
        "DATABASE_URL": dsn,
        "ADMIN_EMAIL": "admin@veza.example",
        "HYPERSWITCH_BASE_URL": "http://127.0.0.1:1",
        "HYPERSWITCH_PUBLISHABLE_KEY": "pk_snd_of_the_tests_1",
        "STRIPE_API_BASE": "http://127.0.0.1:1",
        "TRUSTED_PROXIES": "none",
        "RATE_LIMIT_ENABLED": "false",  # a test is everybody at one address
        "PLATFORM_LEGAL_NAME": "Veza of the tests",
        "PLATFORM_LEGAL_ADDRESS": "1 Example Street|Example City|FR",
    }
    return clean_environment() | SECRETS | {name: str(value) for name, value in (chosen | settings).items()}


def veza(*arguments: str) -> tuple[str, ...]:
    return (sys.executable, "-m", "veza", *arguments)


def demo(**ports: int) -> tuple[str, ...]:
    """``veza demo`` with what it starts beside the server on ports of its own, or those given."""
    chosen = {name: free_port() for name in ("stripe", "hyperswitch", "rtmp", "play", "hls", "stat")} | ports
    return veza("demo", *(f"--{name}-port={port}" for name, port in chosen.items()))


async def answering(url: str, started: Program, seconds: float = START_SECONDS) -> None:
    """Wait until a URL answers that all is well; fails with the process's output if it ends or takes too long.

    Any other answer may be somebody else's, who was given the port before the process had it.
    """
    async with httpx.AsyncClient() as client:
        with trio.move_on_after(seconds):
            while started.process.returncode is None:
                try:
                    if (await client.get(url)).is_success:
                        return
                except httpx.TransportError:
                    pass  # nobody is listening yet
                await trio.sleep(0.05)
    raise AssertionError("not answering: " + "\n".join(started.lines[-40:]))
