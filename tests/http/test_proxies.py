"""Whose request it is, when proxies stand between."""

from __future__ import annotations

from ipaddress import ip_network

import pytest
import trio

from tests.http.conftest import Serve
from veza.http.proxies import client_address

TRUSTED = [ip_network("10.0.0.0/8"), ip_network("fd00::/8")]


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("203.0.113.7", [], "203.0.113.7"),
        ("203.0.113.7", ["198.51.100.1"], "203.0.113.7"),  # nobody we trust says so
        ("10.0.0.1", ["198.51.100.1"], "198.51.100.1"),
        ("10.0.0.1", ["1.2.3.4, 198.51.100.1"], "198.51.100.1"),  # what the client made up
        ("10.0.0.1", ["198.51.100.1, 10.0.0.2"], "198.51.100.1"),  # two proxies in a row
        ("10.0.0.1", ["198.51.100.1", "10.0.0.2"], "198.51.100.1"),  # in a header each
        ("10.0.0.1", ["10.0.0.3, 10.0.0.2"], "10.0.0.3"),  # a client of our own network
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", ["unknown"], "10.0.0.1"),
        ("10.0.0.1", ["198.51.100.1, , 10.0.0.2"], "10.0.0.2"),
        ("10.0.0.1", ["198.51.100.1:5000"], "198.51.100.1"),
        ("::ffff:10.0.0.1", ["2001:db8::7"], "2001:db8::7"),
        ("fd00::1", ["[2001:db8::7]:5000"], "2001:db8::7"),
        ("fd00::1", ["fe80::1%eth0"], "fe80::1%eth0"),
        ("unix", ["198.51.100.1"], "unix"),
    ],
)
def test_the_client_is_the_nearest_address_that_is_no_trusted_proxys(
    peer: str, forwarded: list[str], client: str
) -> None:
    headers = [(b"host", b"veza"), *((b"x-forwarded-for", value.encode()) for value in forwarded)]
    assert client_address(peer, headers, TRUSTED) == client


@pytest.mark.parametrize(("trusted", "client"), [((), "127.0.0.1"), ((ip_network("127.0.0.0/8"),), "198.51.100.1")])
async def test_a_route_sees_the_client_that_a_trusted_proxy_names(serve: Serve, trusted: object, client: str) -> None:
    served = await serve(trusted_proxies=trusted)
    with trio.fail_after(5):
        async with served.client() as http:
            answer = await http.get("/address", headers={"X-Forwarded-For": "198.51.100.1"})
    assert answer.text == client
