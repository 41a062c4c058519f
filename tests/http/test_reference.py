"""What the API reference shows, held against the document: its bodies are taken, its answers are parts of ours."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import pytest
import trio

from tests.http.conftest import Serve
from tests.http.described import Described
from veza.http.document import API

UUID = "01a22618-b30a-7e76-8947-8a0c43364850"
SEEN = "2026-02-23T12:00:00Z"

BODIES: Final[Mapping[str, object]] = {
    "POST /auth/register": {"username": "johndoe", "email": "john@example.com", "password": "SecureP@ssw0rd"},
    "POST /auth/login": {"email": "john@example.com", "password": "SecureP@ssw0rd"},
    "POST /auth/refresh": {"refresh_token": "eyJ..."},
    "POST /marketplace/orders": {"items": [{"product_id": UUID, "quantity": 1}], "payment_method": "card"},
    "POST /marketplace/products/:product_id/reviews": {"rating": 5, "comment": "Amazing track!"},
    "POST /marketplace/orders/:order_id/refund": {"reason": "Not as described", "details": "optional details"},
    "POST /live/streams": {"title": "...", "description": "...", "category": "...", "tags": []},
    "POST /cloud/files/:file_id/share": {"permissions": "read", "expires_in_hours": 24},
    "POST /inventory/gear/:gear_id/repairs": {
        "repair_date": "2026-02-15",
        "description": "...",
        "cost_cents": 8500,
        "currency": "EUR",
        "provider": "...",
    },
    "POST /users/me/privacy/opt-out": {"do_not_sell": True},
    "POST /admin/announcements": {"title": "...", "content": "...", "type": "info"},
    "POST /reports": {"content_type": "track", "content_id": UUID, "reason": "..."},
    "POST /admin/reports/:report_id/resolve": {"action": "warn"},
    "PUT /admin/feature-flags/:name": {"enabled": True},
    "PUT /admin/maintenance": {"enabled": False},
}

USER = {"id": UUID, "username": "johndoe", "email": "john@example.com"}
SIGNED_IN = {"user": USER, "access_token": "eyJ...", "refresh_token": "eyJ...", "expires_in": 3600}
REVIEW = {"id": UUID, "product_id": UUID, "buyer_id": UUID, "order_id": UUID, "rating": 5, "created_at": SEEN}
TRANSFER = {
    "id": UUID,
    "seller_id": UUID,
    "order_id": UUID,
    "amount_cents": 2699,
    "platform_fee_cents": 300,
    "currency": "EUR",
    "status": "failed",
    "retry_count": 1,
    "next_retry_at": "2026-02-24T10:00:00Z",
    "created_at": SEEN,
}
DEEP = {
    "status": "healthy",
    "timestamp": SEEN,
    "checks": {
        "database": {"status": "ok"},
        "redis": {"status": "ok"},
        "disk": {"status": "ok", "details": {"free_gb": 42.5}},
    },
    "config": {
        "jwt_secret_set": True,
        "stripe_connect_enabled": True,
        "platform_fee_rate": 0.10,
        "transfer_retry_enabled": True,
    },
}
VERSION = {
    "id": UUID,
    "file_id": UUID,
    "version": 2,
    "storage_key": "...",
    "size_bytes": 4500000,
    "created_at": "2026-02-10T08:00:00Z",
}
LINK = {"share_url": "https://veza.example/api/v1/cloud/shared/TOKEN", "token": "TOKEN", "expires_at": SEEN}
SUGGESTIONS = {"suggestions": ["hip-hop", "hiphop", "hipster"]}


def enveloped(data: object) -> dict[str, object]:
    return {"success": True, "data": data}


ANSWERS: Final[Mapping[str, object]] = {
    "POST /auth/register 201": enveloped(SIGNED_IN),
    "POST /auth/login 200": enveloped(SIGNED_IN),
    "GET /marketplace/products 200": enveloped({"products": [], "total": 42}),
    "GET /sell/balance 200": enveloped({"connected": True, "available": 12500, "pending": 3200}),
    "POST /sell/connect/onboard 200": enveloped({"onboarding_url": "https://connect.stripe.com/..."}),
    "GET /marketplace/products/:product_id/reviews 200": enveloped({"reviews": [REVIEW | {"comment": "Great!"}]}),
    "POST /marketplace/products/:product_id/reviews 201": enveloped(REVIEW | {"comment": "Amazing track!"}),
    "POST /marketplace/orders/:order_id/refund 200": enveloped({"message": "Refund initiated"}),
    "GET /admin/transfers 200": enveloped({"transfers": [TRANSFER], "total": 5}),
    "POST /admin/transfers/:transfer_id/retry 200": enveloped({"id": UUID, "status": "completed", "retry_count": 2}),
    "GET /health 200": enveloped({"status": "ok"}),
    "GET /health/deep 200": enveloped(DEEP),
    "GET /cloud/files/:file_id/versions 200": {"versions": [VERSION]},
    "POST /cloud/files/:file_id/share 200": LINK,
    "GET /tags/suggest 200": SUGGESTIONS,
}


@pytest.fixture
async def described(serve: Serve) -> Described:
    served = await serve()
    with trio.fail_after(10):
        async with served.client() as client:
            return Described((await client.get(f"{served.base_url}/openapi.json")).raise_for_status().json())


async def test_its_bodies_are_taken(described: Described) -> None:
    for route, body in BODIES.items():
        method, path = route.split()
        told = described.operation(method, API + path)["requestBody"]["content"]["application/json"]
        assert described.faults_of(told["schema"], body) == [], route


async def test_what_it_shows_of_an_answer_is_a_part_of_ours(described: Described) -> None:
    parts = Described(only_known(described.document))
    for shown, answer in ANSWERS.items():
        method, path, status = shown.split()
        told = parts.operation(method, API + path)["responses"][status]["content"]["application/json"]
        assert parts.faults_of(told["schema"], answer) == [], shown


def only_known(shape: Any) -> Any:
    """A schema, or anything around it, that takes a part of its fields, and no others."""
    if isinstance(shape, list):
        return [only_known(each) for each in shape]
    if not isinstance(shape, dict):
        return shape
    inner = {name: only_known(value) for name, value in shape.items() if name != "required"}
    return inner | {"additionalProperties": False} if "properties" in shape else inner


def test_a_field_of_another_name_or_type_would_be_seen() -> None:
    shape = {"type": "object", "properties": {"id": {"type": "string", "format": "uuid"}}, "required": ["id"]}
    parts = Described({"components": {}})
    assert parts.faults_of(only_known(shape), {}) == []
    assert len(parts.faults_of(only_known(shape), {"id": "uuid"})) == 1
    assert len(parts.faults_of(only_known(shape), {"identity": UUID})) == 1
