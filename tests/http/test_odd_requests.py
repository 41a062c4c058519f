"""Requests that no client of ours sends: odd bytes in every place there is. Each is answered, and none with a 500.

`ODD_REQUESTS=20000` in the environment sends so many of each kind, at random.
"""

from __future__ import annotations

import errno
import json
import os
import re
import socket
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
import trio
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.http.calls import ids_of
from tests.http.described import Described
from tests.http.world import World, running_world
from veza.http.document import API

ASKED_FOR: Final = int(os.environ.get("ODD_REQUESTS", "0"))
MANY: Final = settings(
    max_examples=ASKED_FOR or 400,
    derandomize=not ASKED_FOR,
    database=None,
    phases=[Phase.generate, Phase.shrink],
    suppress_health_check=list(HealthCheck),
)

HANGS: Final = 30.0  # what has not come by then is not coming: whatever is asked for here is done in milliseconds
REFUSED_BEFORE_ALL_WAS_READ: Final = (errno.EPIPE, errno.ECONNRESET, errno.ENOTCONN)
REFUSED_BY_THE_LISTENER: Final = (501, 505)  # a coding and a version of HTTP that are not spoken here

LEFT_OUT: Final[Mapping[str, str]] = {
    "GET /notifications/stream": "its answer does not end",
    "DELETE /auth/sessions": "it ends the session that the others are sent by",
    "POST /auth/logout": "so does this",
    "PUT /admin/maintenance": "the others would not be heard any more",
    "POST /admin/users/:user_id/ban": "nor would Ana",
}

HEADERS: Final = (
    "Accept", "Accept-Encoding", "Authorization", "Content-Type", "Cookie", "Date", "Expect", "Forwarded",
    "Idempotency-Key", "If-Match", "If-Modified-Since", "If-None-Match", "If-Range", "If-Unmodified-Since",
    "Last-Event-ID", "Origin", "Range", "Sec-GPC", "Stripe-Signature", "Upgrade", "User-Agent", "X-Forwarded-For",
    "X-Request-ID", "X-Webhook-Signature-512",
)  # fmt: skip
SNIPPETS: Final = (
    b"\0", b"\xff\xfe", b"\xed\xa0\x80", b"%00", b"%ff", b"%", b"%2e%2e%2f", b"../", b"//", b";", b"=", b",", b'"',
    b" ", b"*", b"&", b"?", b"#", b"\t", b"Bearer ", b"Bearer a.b.c", b"bytes=", b"bytes=-1", b"bytes=0-0,2-", b"W/",
    b"multipart/form-data; boundary=", b"application/json; charset=utf-16", b"100-continue", b"9" * 400, b"a" * 9000,
    b"-1", b"t=,v1=", b"1e999", b"refresh_token=", b"ticket=", b"state=", b"limit=", b"cursor=", b"from=", b"search=",
    "\u202e\U0001f3b9\u0661".encode(), b"Fri, 31 Feb 99999 99:99:99 GMT",
)  # fmt: skip
TEXTS: Final = (
    "", "\0", "\ud800", "\u202e", "\ufffe", "x" * 5_000, "1", "\n", "1970-01-01", "0001-01-01T00:00:00+23:59", "a@b",
    "9999-12-31T23:59:59-23:59", "00000000-0000-0000-0000-000000000000",
)  # fmt: skip
NUMBERS: Final = (2**31, 2**63, 2**64, 10**400, -1, 0, 1e308, float("nan"), float("inf"), -0.0, 0.1)
WHOLE_BODIES: Final = (
    b"[" * 50_000,
    b'{"a":' * 20_000,
    b'{"a":1,"a":2}',
    b"NaN",
    b"\xff",
    b"null",
    b"[]",
    b"",
    b"\xef\xbb\xbf{}",
)

odd: Final = st.lists(st.sampled_from(SNIPPETS) | st.binary(max_size=12), max_size=3).map(b"".join)
values: Final = st.recursive(
    st.sampled_from([None, True, False, *NUMBERS, *TEXTS]) | st.text(max_size=8) | st.integers(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=5,
)


# What fails is shown whole, however long it is.
pytestmark = pytest.mark.filterwarnings("ignore:Generating overly large repr")


@dataclass(frozen=True)
class Target:
    """A route about something that there is, and the fields of its body, if it takes one in JSON."""

    method: str
    path: str
    fields: Sequence[str]


@dataclass(frozen=True)
class Wire:
    """To the server, from a thread of its own."""

    address: tuple[str, int]

    def statuses(self, sent: bytes, *, end: bool) -> list[int]:
        """Those of the answers until the server closes; ``end`` tells it that nothing more will come."""
        received = b""
        with socket.create_connection(self.address, timeout=HANGS) as connection:
            try:
                connection.sendall(sent)
                if end:
                    connection.shutdown(socket.SHUT_WR)
                while piece := connection.recv(65536):
                    received += piece
            except TimeoutError:
                raise AssertionError(f"{sent!r} was answered with {received!r}, and then nothing") from None
            except OSError as error:
                if error.errno not in REFUSED_BEFORE_ALL_WAS_READ:
                    raise
        return [int(status) for status in re.findall(rb"^HTTP/1\.1 ([0-9]{3}) ", received, re.MULTILINE)]


@pytest.fixture
async def world(dsn: str, tmp_path: Path) -> AsyncIterator[World]:
    async with running_world(dsn, tmp_path) as made:
        yield made


def wire(world: World) -> Wire:
    url = httpx.URL(world.house.url)
    return Wire((url.host, url.port or 80))


async def targets(world: World) -> list[Target]:
    described = await Described.by(world.house)
    return [
        Target(method.upper(), filled(world, method.upper(), path), fields_of(described, method, path))
        for path, methods in described.document["paths"].items()
        for method in methods
        if f"{method.upper()} {bare(path)}" not in LEFT_OUT
    ]


def bare(path: str) -> str:
    """A path of the document as the table has it."""
    return re.sub(r"\{(\w+)\}", r":\1", path.removeprefix(API))


def filled(world: World, method: str, path: str) -> str:
    """A path about what there is: but for what would take it away from those who come after."""
    ids = {} if method == "DELETE" else ids_of(world, f"{method} {bare(path)}")
    return re.sub(r"\{(\w+)\}", lambda name: ids.get(name[1], "1"), path)


def fields_of(described: Described, method: str, path: str) -> list[str]:
    content = described.document["paths"][path][method].get("requestBody", {}).get("content", {})
    shape: Mapping[str, Any] = content.get("application/json", {}).get("schema", {})
    return sorted(shape.get("properties", {}))


def request(target: Target, query: bytes, headers: Mapping[str, bytes], body: bytes, token: str | None) -> bytes:
    """A request that is framed as it should be, and after which the connection is closed."""
    line = f"{target.method} {target.path}".encode("latin-1") + (b"?" + query if query else b"") + b" HTTP/1.1"
    ours = {"Host": b"veza", "Connection": b"close", "Content-Length": str(len(body)).encode()}
    if target.fields:
        ours["Content-Type"] = b"application/json"
    if token is not None:
        ours["Authorization"] = f"Bearer {token}".encode()
    lines = [line, *(name.encode() + b": " + value for name, value in ({**ours, **headers}).items())]
    return b"\r\n".join([*lines, b"", b""]) + body


@st.composite
def odd_requests(draw: st.DrawFn, found: Sequence[Target], tokens: Sequence[str | None]) -> bytes:
    """A route's request with something odd in it, somewhere."""
    target = draw(st.sampled_from(found))
    query, headers, body = b"", {}, b""
    where = draw(st.sampled_from(["path", "query", "headers", "body", "fields"]))
    if where == "path":
        segments = target.path.split("/")
        segments[draw(st.integers(1, len(segments) - 1))] = draw(odd).decode("latin-1")
        target = Target(target.method, "/".join(segments), target.fields)
    elif where == "query":
        query = draw(odd)
    elif where == "headers":
        headers = draw(st.dictionaries(st.sampled_from(HEADERS), odd, min_size=1, max_size=3))
    elif where == "body":
        body = draw(st.sampled_from(WHOLE_BODIES) | odd)
    if where in ("query", "headers") or (where == "fields" and target.fields):
        body = json.dumps(draw(st.dictionaries(st.sampled_from(target.fields or ["x"]), values, max_size=3))).encode()
    return request(target, query, headers, body, draw(st.sampled_from(tokens)))


async def test_a_request_with_something_odd_in_it_is_answered_and_never_with_500(world: World) -> None:
    found, to = await targets(world), wire(world)
    tokens = [None, await world.token(world.ana), await world.token(world.ana), await world.token(world.admin)]

    @MANY
    @given(sent=odd_requests(found, tokens))
    def check(sent: bytes) -> None:
        answers = to.statuses(sent, end=False)
        assert answers
        assert all(status < 500 or status in REFUSED_BY_THE_LISTENER for status in answers), (answers, sent)

    await trio.to_thread.run_sync(check)


@st.composite
def torn(draw: st.DrawFn, found: Sequence[Target], tokens: Sequence[str | None]) -> bytes:
    """Requests one after the other, cut, spliced and stuffed at random."""
    sent = b"".join(draw(st.lists(odd_requests(found, tokens), min_size=1, max_size=3)))
    for _ in range(draw(st.integers(1, 4))):
        begin, end = sorted(draw(st.tuples(st.integers(0, len(sent)), st.integers(0, len(sent)))))
        sent = sent[:begin] + draw(odd | st.sampled_from([b"\r\n", b"\r\n\r\n", b"\n", b":"])) + sent[end:]
    return sent


async def test_bytes_that_are_no_request_never_have_a_500_nor_hold_their_connection(world: World) -> None:
    found, to, tokens = await targets(world), wire(world), [None, await world.token(world.ana)]

    @MANY
    @given(sent=torn(found, tokens) | st.binary(max_size=200))
    def check(sent: bytes) -> None:
        answers = to.statuses(sent, end=True)
        assert all(status < 500 or status in REFUSED_BY_THE_LISTENER for status in answers), (answers, sent)

    await trio.to_thread.run_sync(check)
    assert (await world.house.get("/health")).status_code == 200
