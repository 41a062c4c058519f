"""Origins, as browsers write them and in no other way."""

from __future__ import annotations

import pytest

from veza.domain.origins import is_web_origin


@pytest.mark.parametrize(
    "text",
    ["https://veza.example", "http://localhost:5173", "https://[2001:db8::1]:8443", "https://xn--bcher-kva.example"],
)
def test_what_a_browser_would_send_is_one(text: str) -> None:
    assert is_web_origin(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "*",
        "null",
        "veza.example",
        "//veza.example",
        "https://",
        "https://*.veza.example",
        "https://veza.example/",
        "https://veza.example/app",
        "https://veza.example?x",
        "https://user@veza.example",
        "https://veza.example:443",
        "https://veza.example:port",
        "HTTPS://veza.example",
        "https://Veza.example",
        "ftp://veza.example",
        "file://",
        "https://[veza",
        "https://bücher.example",
        "https://veza .example",
        "https://veza.example;https://app.veza.example",
        "https://veza%2eexample",
    ],
)
def test_what_no_browser_would_send_is_none(text: str) -> None:
    assert not is_web_origin(text)
