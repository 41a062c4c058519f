"""A client of Veza's API to begin from: what a program has to do beyond sending requests, in one place.

It renews its access token when that ends, comes again when it is told to (``Retry-After``), and repeats nothing that
could then be done twice. Everything else is the API's own, as `/openapi.json` describes it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self
from uuid import uuid4

import httpx

Json = dict[str, Any]

REPEATABLE: Final = ("GET", "PUT", "DELETE")  # done twice, they have done what once does
TRIES: Final = 8
PAUSE_SECONDS: Final = 1.0  # where nobody says how long: the connection broke
SECONDS: Final = 60.0  # for an answer; most take milliseconds, and events have a sign of life every fifteen seconds


class ApiError(Exception):
    """A request was refused. ``code`` is for programs, the message for people, ``request_id`` for who is asked why."""

    def __init__(self, status: int, told: Mapping[str, Any]) -> None:
        super().__init__(f"{status} {told.get('code')}: {told.get('error')}")
        self.status = status
        self.code: str | None = told.get("code")
        self.request_id: str | None = told.get("request_id")
        self.details: list[Json] = told.get("details", [])


class Veza:
    """Somebody's session. Use it in a ``with``; each thread has its own. ``url`` is the public one, without a path."""

    def __init__(self, url: str, *, sleep: Callable[[float], None] = time.sleep) -> None:
        self.http = httpx.Client(base_url=f"{url}/api/v1", timeout=SECONDS)
        self.sleep = sleep
        self._access = ""
        self._refresh = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.http.close()

    # -- who one is ---------------------------------------------------------------------------------------------------

    def register(self, username: str, email: str, password: str) -> Json:
        """Sign up, and in; the new user. Raises ApiError."""
        return self._keep(
            self.call("POST", "/auth/register", json={"username": username, "email": email, "password": password})
        )

    def login(self, email: str, password: str) -> Json:
        """Sign in; the user. Raises ApiError."""
        return self._keep(self.call("POST", "/auth/login", json={"email": email, "password": password}))

    def refresh(self) -> Json:
        """Get new tokens for the refresh token, which is then used up. Raises ApiError; after a 401 sign in again."""
        answer = self._once("POST", "/auth/refresh", {}, None, {"json": {"refresh_token": self._refresh}})
        if answer.status_code == httpx.codes.UNAUTHORIZED:
            self._refresh = ""
        return self._keep(_data(answer))

    def _keep(self, told: Json) -> Json:
        self._access, self._refresh = told["access_token"], told["refresh_token"]
        user: Json = told["user"]
        return user

    # -- requests -----------------------------------------------------------------------------------------------------

    def call(self, method: str, path: str, *, file: Path | None = None, key: str | None = None, **request: Any) -> Any:
        """The ``data`` of an answer. ``file`` is uploaded; ``json`` and ``params`` are as httpx has them.

        ``key`` makes a POST one that can be repeated, where its route knows ``Idempotency-Key``. Raises ApiError, and
        httpx.TransportError when nobody answers.
        """
        headers = {} if key is None else {"Idempotency-Key": key}
        return _data(self._send(method, path, headers, file=file, **request))

    def download(self, path: str, to: Path) -> None:
        """Write a file's bytes as they come. Raises ApiError, and httpx.TransportError when they end too soon."""
        with self.http.stream("GET", path, headers=self._signed()) as answer, to.open("wb") as out:
            if answer.is_success:
                for piece in answer.iter_bytes():
                    out.write(piece)
                return
            answer.read()
        if answer.status_code != httpx.codes.UNAUTHORIZED or not self._refresh:
            _data(answer)
        self.refresh()
        self.download(path, to)

    def _send(
        self, method: str, path: str, headers: Mapping[str, str], *, file: Path | None = None, **request: Any
    ) -> httpx.Response:
        """The answer, once it is neither "too often" nor "not now"; repeated only where that does no harm."""
        repeatable = method in REPEATABLE or "Idempotency-Key" in headers
        for left in reversed(range(TRIES)):
            try:
                answer = self._once(method, path, headers, file, request)
            except httpx.TransportError:
                if not (repeatable and left):
                    raise
                self.sleep(PAUSE_SECONDS)
                continue
            if answer.status_code == httpx.codes.UNAUTHORIZED and self._refresh:
                self.refresh()
            elif left and _is_to_come_again(answer, repeatable):
                self.sleep(float(answer.headers.get("Retry-After", PAUSE_SECONDS)))
            else:
                return answer
        return answer

    def _once(
        self, method: str, path: str, headers: Mapping[str, str], file: Path | None, request: Json
    ) -> httpx.Response:
        sent = {**self._signed(), **headers}
        if file is None:
            return self.http.request(method, path, headers=sent, **request)
        with file.open("rb") as opened:  # each time anew, from its beginning
            return self.http.request(method, path, headers=sent, files={"file": (file.name, opened)}, **request)

    def _signed(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._access}"} if self._access else {}

    # -- lists --------------------------------------------------------------------------------------------------------

    def listed(self, path: str, name: str, **params: Any) -> Generator[Json, None, None]:
        """Everything in a list, page by page; ``name`` is what its items are called in an answer."""
        offset = 0
        while True:
            page = self.call("GET", path, params={"limit": 100, **params, "offset": offset})
            yield from page[name]
            offset += len(page[name])
            if not page[name] or offset >= page["total"]:
                return

    def by_cursor(self, path: str, name: str, **params: Any) -> Generator[Json, None, None]:
        """The same of a list that grows meanwhile (the audit): each page says where the next one begins."""
        page = self.call("GET", path, params=params)
        yield from page[name]
        while page["next_cursor"] is not None:
            page = self.call("GET", path, params={**params, "cursor": page["next_cursor"]})
            yield from page[name]

    # -- what happens -------------------------------------------------------------------------------------------------

    def notifications(self, after: str = "") -> Generator[Json, None, None]:
        """What one is told, as it is told; without end, over lost connections, and nothing twice or left out.

        ``after`` is the id of the last event that one had: "0" begins with the first there ever was, without it only
        what is new is told. Close it when you have heard enough. Raises ApiError.
        """
        last = after
        while True:
            headers = self._signed() | ({"Last-Event-ID": last} if last else {})
            pause = PAUSE_SECONDS
            try:
                with self.http.stream("GET", "/notifications/stream", headers=headers) as answer:
                    if answer.status_code == httpx.codes.UNAUTHORIZED and self._refresh:
                        self.refresh()
                        continue
                    if not answer.is_success:
                        answer.read()
                        if not _is_to_come_again(answer, repeatable=True):
                            _data(answer)
                        pause = float(answer.headers.get("Retry-After", PAUSE_SECONDS))
                    for event in events(answer.iter_lines() if answer.is_success else ()):
                        last = event.get("id", last)
                        if event.get("event") == "notification":
                            yield json.loads(event["data"])
            except httpx.TransportError:
                pass  # it comes back, and goes on after the last one it has
            self.sleep(pause)

    def status(self, stream_id: str) -> Generator[Json, None, None]:
        """A stream's status now, and each time that it has changed; asked for as often as it says. Raises ApiError."""
        told: Json = {}
        headers: dict[str, str] = {}
        while True:
            answer = self._send("GET", f"/live/streams/{stream_id}/status", headers)
            if answer.status_code != httpx.codes.NOT_MODIFIED:
                told = _data(answer)
                headers = {"If-None-Match": answer.headers["ETag"]}
                yield told
            self.sleep(told["poll_after_ms"] / 1000)


def new_key() -> str:
    """A name for one request that is to be done once, however often it has to be sent."""
    return str(uuid4())


def events(lines: Iterable[str]) -> Iterator[dict[str, str]]:
    """Server-sent events, each as its fields."""
    fields: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if line and colon and name:  # a line that begins with a colon says only that the connection lives
            fields[name] = value.removeprefix(" ")
        elif not line and fields:
            yield fields
            fields = {}


def _is_to_come_again(answer: httpx.Response, repeatable: bool) -> bool:
    """Too often: nothing was done. Not now: perhaps it was, so only what may be done twice is sent twice."""
    return answer.status_code == httpx.codes.TOO_MANY_REQUESTS or (
        answer.status_code == httpx.codes.SERVICE_UNAVAILABLE and repeatable
    )


def _data(answer: httpx.Response) -> Any:
    if not answer.is_success:
        is_ours = answer.headers.get("Content-Type", "").startswith("application/json")
        raise ApiError(answer.status_code, answer.json() if is_ours else {"error": answer.text[:200]})
    return answer.json()["data"]
