"""nginx in front of the house, by the site that is shipped: TLS ends there, and nothing else is changed by it."""

from __future__ import annotations

import os
import re
import shutil
import ssl
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from ipaddress import ip_network
from pathlib import Path

import httpx
import pytest
import trio
import trustme

from tests.events import listening
from tests.house import PASSWORD, House, free_port, running_house
from tests.http.desk import refusal, signed
from tests.processes import Program, program
from tests.shop import data
from veza.rtmp_server import SEARCHED

pytestmark = pytest.mark.slow

SITE = Path(__file__).parents[2] / "deploy" / "nginx-site.conf"
NAME = "veza.example"
CLIENT = "127.0.0.2"  # not the address that nginx comes from
HOUSE = """
pid {directory}/nginx.pid;
daemon off;
error_log stderr;
events {{ worker_connections 256; }}
http {{
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    include {directory}/site.conf;
}}
"""


@dataclass
class Front:
    """nginx by the shipped site, in front of whatever listens at ``veza``."""

    directory: Path
    veza: str
    players: str
    authority: trustme.CA
    http_port: int
    https_port: int

    @classmethod
    def build(cls, directory: Path, veza: str, players: str = "127.0.0.1:1") -> Front:
        directory.mkdir()
        front = cls(directory, veza, players, trustme.CA(), free_port(), free_port())
        front._certify()
        front._write()
        return front

    @property
    def url(self) -> str:
        return f"https://{NAME}:{self.https_port}"

    def _certify(self) -> None:
        shown = self.authority.issue_cert(NAME)
        shown.private_key_pem.write_to_path(str(self.directory / "key.pem"))
        for number, part in enumerate(shown.cert_chain_pems):
            part.write_to_path(str(self.directory / "cert.pem"), append=number > 0)

    def _write(self) -> None:
        chosen = {
            "SERVER_NAME": NAME,
            "CERTIFICATE": self.directory / "cert.pem",
            "CERTIFICATE_KEY": self.directory / "key.pem",
            "HTTP_LISTEN": f"127.0.0.1:{self.http_port}",
            "HTTPS_LISTEN": f"127.0.0.1:{self.https_port}",
            "VEZA": self.veza,
            "HLS": self.players,
            "LOGS": self.directory,
        }
        asked = re.search(r"envsubst '(.+)'", text := SITE.read_text())
        assert asked is not None
        assert set(asked[1].split()) == {f"${{{name}}}" for name in chosen}
        filled = re.sub(r"\$\{([A-Z_]+)\}", lambda found: str(chosen[found[1]]), text)
        (self.directory / "site.conf").write_text(filled)
        (self.directory / "nginx.conf").write_text(HOUSE.format(directory=self.directory))

    def command(self, *more: str) -> list[str]:
        nginx = shutil.which("nginx", path=SEARCHED)
        assert nginx is not None
        # Started by root, its workers would be nobody's, who can't come to a test's directory.
        as_ourselves = ["-g", "user root;"] if os.geteuid() == 0 else []
        return [nginx, "-p", str(self.directory), "-c", str(self.directory / "nginx.conf"), *as_ourselves, *more]

    def known(self) -> ssl.SSLContext:
        """Of who believes the certificate."""
        known = ssl.create_default_context()
        self.authority.configure_trust(known)
        return known

    @asynccontextmanager
    async def client(self) -> AsyncIterator[httpx.AsyncClient]:
        """Of somebody at CLIENT."""
        at = httpx.AsyncHTTPTransport(verify=self.known(), local_address=CLIENT)
        headers = {"Host": NAME}
        async with httpx.AsyncClient(transport=_Named(at), base_url=self.url, headers=headers, timeout=20) as client:
            yield client

    async def answers(self, nginx: Program) -> None:
        """Wait until it does."""
        async with self.client() as client:
            while nginx.process.returncode is None:
                try:
                    await client.get("/")
                except httpx.ConnectError:
                    await trio.sleep(0.05)  # it is not listening yet
                else:
                    return
        raise AssertionError(nginx.lines)


@dataclass
class _Named(httpx.AsyncBaseTransport):
    """NAME is on this machine: what a resolver would say. TLS still asks for the name."""

    inner: httpx.AsyncHTTPTransport

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        request.extensions["sni_hostname"] = NAME
        request.url = request.url.copy_with(host="127.0.0.1")
        return await self.inner.handle_async_request(request)

    async def aclose(self) -> None:
        await self.inner.aclose()


@asynccontextmanager
async def running(front: Front) -> AsyncIterator[None]:
    async with program(*front.command(), environment=dict(os.environ), cwd=front.directory) as nginx:
        try:
            await front.answers(nginx)
            yield
        finally:  # in order: a worker outlives a master that is killed
            with trio.CancelScope(shield=True):
                nginx.terminate()
                await nginx.ended()


@asynccontextmanager
async def fronted(dsn: str, tmp_path: Path) -> AsyncIterator[tuple[Front, House]]:
    trusted = (ip_network("127.0.0.1/32"),)
    async with running_house(dsn, tmp_path, trusted_proxies=trusted, upload_max_mb=1) as house:
        front = Front.build(tmp_path / "nginx", house.url.removeprefix("http://"))
        async with running(front):
            yield front, house


def test_nginx_takes_the_site_as_it_is(tmp_path: Path) -> None:
    front = Front.build(tmp_path / "nginx", "127.0.0.1:8080")
    done = subprocess.run(front.command("-t"), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    warned = [line for line in done.stderr.splitlines() if "[warn]" in line]
    assert [line for line in warned if "http2" not in line] == []  # which newer ones say otherwise: the site tells how


async def test_who_comes_by_it_is_known_by_their_own_address_and_their_requests_name(dsn: str, tmp_path: Path) -> None:
    body = {"username": "ann", "email": "ann@veza.example", "password": PASSWORD}
    with trio.fail_after(60):
        async with fronted(dsn, tmp_path) as (front, _), front.client() as client:
            answer = await client.post("/api/v1/auth/register", json=body, headers={"X-Request-ID": "of-ann.1"})
            token = data(answer)["access_token"]
            [session] = data(await client.get("/api/v1/auth/sessions", headers=signed(token)))["sessions"]
            forged = await client.get("/api/v1/health", headers={"X-Request-ID": 'a","code":"b'})
    assert answer.headers["X-Request-ID"] == "of-ann.1"
    assert session["address"] == CLIENT
    assert re.fullmatch(r"[0-9a-f]{32}", forged.headers["X-Request-ID"])


async def test_its_log_has_neither_addresses_of_requests_nor_what_stands_in_them(dsn: str, tmp_path: Path) -> None:
    with trio.fail_after(60):
        async with fronted(dsn, tmp_path) as (front, _), front.client() as client:
            assert (await client.get("/api/v1/objects/a-secret-token?ticket=s3cret")).status_code == 404
            await client.get("/api/v1/health", headers={"X-Request-ID": "last-one"})
            log = front.directory / "veza.log"
            while "last-one" not in log.read_text():  # noqa: ASYNC110 - written by another process
                await trio.sleep(0.02)
    written = "".join(each.read_text() for each in front.directory.glob("*.log"))
    assert "secret" not in written
    assert "s3cret" not in written


async def test_events_come_through_as_they_happen(dsn: str, tmp_path: Path) -> None:
    body = {"username": "ann", "email": "ann@veza.example", "password": PASSWORD}
    with trio.fail_after(60):
        async with fronted(dsn, tmp_path) as (front, house), front.client() as client:
            token = data(await client.post("/api/v1/auth/register", json=body))["access_token"]
            url = f"https://127.0.0.1:{front.https_port}/api/v1/notifications/stream"
            async with listening(url, {"Host": NAME} | signed(token), (front.known(), NAME)) as events:
                assert (await events.next())["event"] == "ready"
                assert (await house.post("/users/me/export", token)).status_code == 202
                assert (await events.notification())["kind"] == "export_ready"


async def test_a_body_is_bounded_by_the_route_and_refused_in_its_envelope(dsn: str, tmp_path: Path) -> None:
    body = {"username": "ann", "email": "ann@veza.example", "password": PASSWORD}
    with trio.fail_after(60):
        async with fronted(dsn, tmp_path) as (front, _), front.client() as client:
            token = data(await client.post("/api/v1/auth/register", json=body))["access_token"]
            for size, status in ((900_000, 201), (2_000_000, 413)):
                files = {"file": ("take.wav", bytes(size))}
                answer = await client.post("/api/v1/cloud/files", files=files, headers=signed(token))
                assert answer.status_code == status
    assert refusal(answer)[0] == 413


async def test_what_is_for_those_inside_is_not_there_and_plain_http_is_sent_on(dsn: str, tmp_path: Path) -> None:
    with trio.fail_after(60):
        async with fronted(dsn, tmp_path) as (front, house), front.client() as client:
            assert (await house.http.get(f"{house.url}/metrics")).status_code == 200
            for path in ("/metrics", "/api/v1/metrics", "/api/v1/hooks/rtmp/token/publish"):
                assert (await client.get(path)).status_code == 404
                assert b"success" not in (await client.get(path)).content  # nginx's own: it never came to the house
            plain = await client.get(f"http://{NAME}:{front.http_port}/watch/1?a=b")
    assert (plain.status_code, plain.headers["Location"]) == (308, f"https://{NAME}/watch/1?a=b")


async def test_while_nobody_is_behind_it_clients_get_the_envelope_and_when_to_come_again(tmp_path: Path) -> None:
    front = Front.build(tmp_path / "nginx", f"127.0.0.1:{free_port()}")
    with trio.fail_after(60):
        async with running(front), front.client() as client:
            answer = await client.post("/api/v1/auth/login", json={}, headers={"X-Request-ID": "of-ann.1"})
    assert refusal(answer) == (503, "unavailable")
    assert answer.json()["request_id"] == answer.headers["X-Request-ID"] == "of-ann.1"
    assert answer.headers["Retry-After"] == "5"
