"""A secret never appears in a log, wherever it came from; every library's warnings come out the same way."""

from __future__ import annotations

import io
import json
import logging
import warnings
from typing import Any

import pytest
import structlog

from veza import logs

SECRETS = [
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl",
    "sk_test_51NabcDEF",
    "sk_live_51NabcDEF",
    "whsec_abcDEF123",
    "Bearer abcdef123456",
    "snd_abcdef123456",
    "sk_7f3a_MZXW6YTBOI======",
]


def read(out: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.getvalue().splitlines()]


@pytest.mark.parametrize(
    "key",
    [
        "password", "new_password", "passwd", "token", "access_token", "refresh_token", "jwt_secret", "authorization",
        "Authorization", "api_key", "api-key", "apikey", "stream_key", "client_secret", "cookie", "set-cookie",
        "idempotency_key", "ticket_token",
    ],
)  # fmt: skip
def test_a_telling_name_hides_its_value_at_any_depth(key: str) -> None:
    event = logs.redact(None, "info", {"event": "x", key: "hunter2", "in": {"a": [{key: "hunter2"}]}})
    assert "hunter2" not in str(event)


@pytest.mark.parametrize("secret", SECRETS)
def test_a_secret_is_known_by_its_looks_in_any_text(secret: str) -> None:
    event = logs.redact(
        None, "info", {"event": f"failed for {secret}", "error": ValueError(secret), "raw": secret.encode()}
    )
    assert secret.removeprefix("Bearer ") not in str(event)
    assert "failed for" in event["event"]


def test_a_urls_password_is_hidden_and_the_rest_stays() -> None:
    event = logs.redact(None, "info", {"dsn": "postgresql://veza:hunter2@db.internal:5432/veza"})
    assert event["dsn"] == "postgresql://[redacted]@db.internal:5432/veza"


def test_what_is_no_secret_is_left_as_it_is() -> None:
    event = {"event": "request", "status": 200, "jwt_secret_set": True, "route": "/api/v1/x", "at": None, "ms": 1.5}
    assert logs.redact(None, "info", dict(event)) == event


def test_json_lines_have_a_level_a_time_and_the_requests_context(written: io.StringIO) -> None:
    logs.configure(level="info", log_format="json", out=written)
    with structlog.contextvars.bound_contextvars(request_id="one"):
        structlog.get_logger().info("order_paid", order="o1")
        structlog.get_logger().debug("too_much_detail")
    [line] = read(written)
    assert (line["event"], line["level"], line["order"], line["request_id"]) == ("order_paid", "info", "o1", "one")
    assert line["timestamp"].endswith("Z")


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_a_traceback_is_written_without_the_secrets_in_it(written: io.StringIO, log_format: logs.Format) -> None:
    logs.configure(level="info", log_format=log_format, out=written)
    try:
        raise ValueError("refused: Bearer abcdef123456")
    except ValueError:
        structlog.get_logger().exception("call_failed", access_token="hunter2")
    assert "call_failed" in written.getvalue()
    assert "ValueError" in written.getvalue()
    assert "abcdef123456" not in written.getvalue()
    assert "hunter2" not in written.getvalue()


def test_the_standard_librarys_warnings_take_the_same_way_and_its_chatter_none(written: io.StringIO) -> None:
    logs.configure(level="info", log_format="json", out=written)
    stripe = logging.getLogger("stripe")
    stripe.info("request to /v1/transfers")
    stripe.warning("key sk_test_51NabcDEF was refused %s", "twice")
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        logging.captureWarnings(capture=True)
        warnings.warn("old and tired", DeprecationWarning, stacklevel=1)
    chatter = read(written)
    assert [line["logger"] for line in chatter] == ["stripe", "py.warnings"]
    assert chatter[0]["event"] == "key [redacted] was refused twice"
    assert chatter[0]["level"] == "warning"
