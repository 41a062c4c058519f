"""Examples of bodies and answers, made of their schemas: what a field of a name reads like is said here, once.

So each has every field there is, and none that there is not.
`tests/http/test_document.py` holds each against its schema.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

JSON: Final = "application/json"
SCHEMAS: Final = "#/components/schemas/"

ID: Final = "01a22618-b30a-7e76-8947-8a0c43364850"
FORMATS: Final[Mapping[str, str]] = {
    "uuid": ID,
    "date-time": "2026-02-23T12:00:00Z",
    "date": "2026-02-23",
    "email": "john@example.com",
    "password": "SecureP@ssw0rd",
}
TYPES: Final[Mapping[str, type | tuple[type, ...]]] = {
    "string": str,
    "integer": int,
    "number": (int, float),
    "boolean": bool,
    "array": list,
    "object": dict,
    "null": type(None),
}

FIELDS: Final[Mapping[str, object]] = {
    # who
    "username": "johndoe",
    "email": "john@example.com",
    "search": "hip",
    "access_token": "eyJ...",
    "refresh_token": "eyJ...",
    "expires_in": 3600,
    "TicketOut.expires_in": 60,
    "user_agent": "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
    "address": "203.0.113.7",
    "current": True,
    "buyer": "johndoe",
    "what": "reviews",
    "how_many": 3,
    "KeptOut.what": "invoices",
    "why": "The law has it kept what was bought and sold.",
    "role": "user",
    "banned": False,
    "ban": None,
    "until": "2026-03-02T12:00:00Z",
    "BanBody.reason": "Spam",
    "BanBody.until": None,
    "BanOut.reason": "Spam",
    "RoleBody.role": "admin",
    "PasswordBody.new_password": "An0ther-P@ssw0rd",
    "gets": "What the payment is about.",
    "purpose": "To be paid.",
    "RecipientOut.name": "Hyperswitch",
    "source": "user",
    # what is sold
    "title": "Midnight Drive",
    "description": "Warm and slow, at 92 bpm.",
    "NewProductBody.status": "draft",
    "product_type": "track",
    "price_cents": 2999,
    "currency": "EUR",
    "tags": ["hip-hop", "lo-fi"],
    "suggestions": ["hip-hop", "hiphop", "hipster"],
    "status": "published",
    "average": 4.5,
    "RatingOut.count": 12,
    "cover_url": f"https://veza.example/api/v1/marketplace/products/{ID}/cover?v=6fbb0d3c11aa",
    "preview_url": f"https://veza.example/api/v1/marketplace/products/{ID}/preview?v=9ac1e07b52f4",
    "filename": "midnight-drive.wav",
    "content_type": "audio/wav",
    "size_bytes": 4500000,
    "url": "https://veza.example/api/v1/objects/TOKEN",
    "DownloadOut.url": f"https://veza.example/api/v1/marketplace/orders/{ID}/downloads/{ID}",
    "rating": 5,
    "comment": "Great!",
    "response": "Thank you!",
    "refunded": False,
    "total": 42,
    "expected_total_cents": 2999,
    "payment_method": "card",
    "quantity": 1,
    "unit_price_cents": 2999,
    "total_cents": 2999,
    "refunded_cents": 0,
    "invoice_number": "2026-000042",
    "credit_note_number": "CN-2026-000007",
    "payment_id": "pay_4gr5n7t2",
    "client_secret": "pay_4gr5n7t2_secret_...",
    "publishable_key": "pk_...",
    "OrderOut.status": "pending",
    "OrderOut.paid_at": None,
    "OrderOut.invoice_number": None,
    "ItemOut.licence_key": None,
    "PaymentOut.status": "requires_payment_method",
    # what goes back
    "reason": "Not as described",
    "RefundBody.items": None,
    "RefundBody.amount_cents": None,
    "RefundOut.status": "succeeded",
    "SellersRefundOut.status": "succeeded",
    "AdminsRefundOut.status": "succeeded",
    "DecisionBody.reason": "It was downloaded.",
    "details": "The second file is silent.",
    "message": "Refund initiated",
    "decision_reason": "It was downloaded.",
    "amount_cents": 2999,
    "gross_cents": 2999,
    "fee_cents": 300,
    "net_cents": 2699,
    "left_cents": 0,
    "fee_refunded_cents": 0,
    "platform_fee_cents": 300,
    "withheld_cents": 0,
    "reversed_cents": 0,
    "taken_cents": 2999,
    "owed_cents": 1200,
    "failure": None,
    "failure_code": None,
    "failure_message": None,
    "DisputeOut.id": "dp_7k2m9x4c",
    "DisputeOut.status": "dispute_opened",
    # what is paid out
    "connected": True,
    "available": 12500,
    "pending": 3200,
    "due": 2699,
    "held": 0,
    "owed": 0,
    "onboarding_url": "https://connect.stripe.com/...",
    "retry_count": 1,
    "next_retry_at": "2026-02-24T10:00:00Z",
    "hold_reason": None,
    "SellerTransferOut.status": "failed",
    "SellerTransferOut.completed_at": None,
    "TransferOut.status": "failed",
    "TransferOut.completed_at": None,
    "withholdings": [],
    "external_ref": "tr_3p8w6v1z",
    "orders": 8,
    "refunds": 1,
    "count": 5,
    "provider_asked": True,
    "balanced": False,
    "code": "not_booked",
    "invariant": "What we sent is what the provider has.",
    "subject": f"transfers/{ID}",
    "detail": "The provider has it, our books do not.",
    # live
    "category": "house",
    "draft": False,
    "is_live": True,
    "state": "live",
    "health": "good",
    "viewer_count": 128,
    "hls_url": f"https://hls.veza.example/{ID}/index.m3u8",
    "ready": True,
    "codec": "H264",
    "profile": "High",
    "level": "3.1",
    "width": 1280,
    "height": 720,
    "frame_rate": 30.0,
    "AudioOut.codec": "AAC",
    "AudioOut.profile": "LC",
    "channels": 2,
    "sample_rate": 48000,
    "stream_key": "sk_...",
    "rtmp_url": "rtmp://live.veza.example/live",
    "live_session_dropped": False,
    "bitrate_bps": 2500000,
    "bytes_in": 187500000,
    "dropped_frames": 0,
    "duration_seconds": 3540,
    "peak_viewers": 131,
    "reconnects": 1,
    "version": 2,
    "StreamStatusOut.version": 30000012,
    "poll_after_ms": 5000,
    # what is kept
    "name": "midnight-drive.wav",
    "storage_key": "...",
    "used_bytes": 9000000,
    "quota_bytes": 10737418240,
    "files": 2,
    "versions": 1,
    "permissions": "read",
    "expires_in_hours": 24,
    "share_url": "https://veza.example/api/v1/cloud/shared/TOKEN",
    "token": "TOKEN",
    "files_done": 12,
    "files_total": 12,
    "bytes_done": 4500000,
    "bytes_total": 4500000,
    "download_url": "https://veza.example/api/v1/objects/TOKEN",
    "GearOut.name": "Juno-106",
    "GearBody.name": "Juno-106",
    "NewGearBody.name": "Juno-106",
    "GearOut.category": "synthesizer",
    "GearBody.category": "synthesizer",
    "NewGearBody.category": "synthesizer",
    "brand": "Roland",
    "model": "Juno-106",
    "serial_number": "463210",
    "purchase_price_cents": 149900,
    "warranty_expires_on": "2028-02-23",
    "notes": "Voice chips replaced.",
    "documents_count": 2,
    "repairs_count": 1,
    "cost_cents": 8500,
    "repair_date": "2026-02-15",
    "RepairOut.description": "New voice chip",
    "NewRepairBody.description": "New voice chip",
    "provider": "Synth Doctor",
    "RepairTotalOut.total_cents": 8500,
    "DocumentOut.filename": "invoice.pdf",
    "DocumentOut.content_type": "application/pdf",
    # what is told
    "kind": "warranty_ending",
    "NotificationOut.title": "A warranty is about to end",
    "NotificationOut.body": "That of your Juno-106 ends on 2028-02-23.",
    "NotificationOut.data": {"gear_id": ID, "warranty_expires_on": "2028-02-23"},
    "read": False,
    "read_at": None,
    "unread_count": 3,
    "ReadAllOut.read": 3,
    "ticket": "TOKEN",
    "content": "On Sunday from 8 to 9 (UTC) nothing can be bought.",
    "AnnouncementBody.title": "A short break on Sunday",
    "AnnouncementOut.title": "A short break on Sunday",
    "AdminAnnouncementOut.title": "A short break on Sunday",
    "type": "info",
    "starts_at": "2026-02-23T12:00:00Z",
    "ends_at": "2026-03-02T12:00:00Z",
    "content_id": ID,
    "NewReportBody.reason": "Spam",
    "ReportOut.reason": "Spam",
    "SeenReportOut.reason": "Spam",
    "SeenReportOut.status": "resolved",
    "AnnouncementBody.starts_at": None,
    "AnnouncementBody.ends_at": None,
    "excerpt": "Midnight Drive",
    "reports_of_it": 2,
    "note": "",
    "resolved": 8,
    "dismissed": 5,
    "CountsOut.pending": 2,
    "ResolveBody.action": "warn",
    "ResolveBody.reason": "It is not your own work.",
    "ResolveBody.until": None,
    # what providers and ingest servers tell us
    "event": "payment.succeeded",
    "EventBody.type": "transfer.created",
    "EventBody.id": "evt_5n1q8s3b",
    "EventBody.data": {"object": {"id": "tr_3p8w6v1z"}},
    "MediaMtxAuth.action": "publish",
    "MediaMtxAuth.path": ID,
    "protocol": "rtmp",
    "ip": "203.0.113.7",
    "MediaMtxAuth.password": "sk_...",
    # what operators see
    "enabled": True,
    "FlagOut.name": "marketplace.checkout",
    "FlagOut.description": "Placing orders.",
    "MaintenanceOut.message": "Back at nine.",
    "MaintenanceBody.message": "Back at nine.",
    "expected_end": "2026-02-23T13:00:00Z",
    "MaintenanceBody.expected_end": None,
    "EntryOut.action": "flag.switch",
    "resource": "feature-flags/marketplace.checkout",
    "EntryOut.details": {"enabled": False},
    "method": "PUT",
    "EntryOut.status": 200,
    "request_id": ID,
    "next_cursor": None,
    "path": "veza/money/payouts",
    "ActorOut.kind": "Payouts",
    "SupervisorOut.kind": "rest_for_one",
    "SupervisorOut.path": "veza/money",
    "ActorOut.state": "running",
    "SupervisorOut.state": "running",
    "SupervisorOut.limit": None,
    "incarnation": 1,
    "uptime_s": 86400.0,
    "RestartsOut.total": 0,
    "in_window": 0,
    "limit": 3,
    "next_backoff_s": None,
    "gave_up": 0,
    "hidden": 0,
    "depth": 0,
    "capacity": 64,
    "high_water": 3,
    "oldest_age_ms": 0.0,
    "refused": 0,
    "expired": 0,
    "message_type": "RetryTransfer",
    "running_ms": 12.5,
    "rate_1m": 4.2,
    "p50": 1.8,
    "p99": 14.1,
    "last_crash": None,
    "paused_because": None,
    "snapshot": None,
    "ReasonBody.reason": "The provider asked us to wait.",
    "HoldBody.reason": "To be looked at.",
    "checks": {
        "database": {"status": "ok", "details": None},
        "redis": {"status": "ok", "details": None},
        "disk": {"status": "ok", "details": {"free_gb": 42.5}},
    },
    "platform_fee_rate": 0.10,
    "loop_lag_ms": 0.4,
    "DeepOut.status": "healthy",
    "ReadyOut.status": "ready",
    "AliveOut.status": "alive",
    "Unhealthy.error": "This process should get no traffic now.",
    "Unhealthy.code": "not_ready",
    "Unhealthy.data": {"status": "not_ready", "checks": {"database": {"status": "failed", "details": None}}},
}
"""What a field reads like by its name, or by its shape's and its own where another of that name reads otherwise."""

NOT_SENT: Final = frozenset({"MeBody.username", "MeBody.email"})
"""Left out of what is sent: who tries it out as it stands would be renamed, and sign in by an address not theirs."""


def show(operation: Mapping[str, Any], schemas: Mapping[str, Any]) -> None:
    """Give the JSON that an operation takes and answers with an example, where it has none."""
    sampler = Sampler(schemas)
    body = operation.get("requestBody", {}).get("content", {}).get(JSON)
    if body is not None:
        body.setdefault("example", sampler.sample(body["schema"], sent=True))
    for answer in operation["responses"].values():
        content = answer.get("content", {}).get(JSON)
        if content is not None:
            content.setdefault("example", sampler.sample(content["schema"]))


class Sampler:
    """Makes a value of a schema, as pydantic writes schemas."""

    def __init__(self, schemas: Mapping[str, Any]) -> None:
        self._schemas = schemas

    def sample(self, schema: Mapping[str, Any], *, sent: bool = False, within: Sequence[str] = ()) -> Any:
        """``sent``: of a body, whose fields that are ignored (they may have any value) are left out."""
        schema, within = self._resolved(schema, within)
        if examples := schema.get("examples"):
            return examples[0]
        if "const" in schema:
            return schema["const"]
        if "enum" in schema:
            return schema["enum"][0]
        if "anyOf" in schema:
            return self.sample(self._choice(schema["anyOf"], within), sent=sent, within=within)
        match schema.get("type"):
            case "object":
                return self._object(schema, sent, within)
            case "array":
                item = schema.get("items", {})
                return [] if item.get("$ref") in within else [self.sample(item, sent=sent, within=within)]
            case "string":
                return FORMATS.get(schema.get("format", ""), "...")
            case "integer" | "number":
                return schema.get("minimum", 1)
            case "boolean":
                return True
        return None

    def _object(self, schema: Mapping[str, Any], sent: bool, within: Sequence[str]) -> dict[str, Any]:
        if "properties" not in schema:
            values = schema.get("additionalProperties")
            keys = self.sample(schema["propertyNames"]) if "propertyNames" in schema else "..."
            return {keys: self.sample(values, within=within)} if isinstance(values, dict) else {}
        return {
            name: self._field(schema.get("title", ""), name, field, sent, within)
            for name, field in schema["properties"].items()
            if not sent or self._is_sent(schema.get("title", ""), name, field)
        }

    def _is_sent(self, shape: str, name: str, field: Mapping[str, Any]) -> bool:
        return bool(field.keys() & {"type", "anyOf", "$ref", "enum", "const"}) and f"{shape}.{name}" not in NOT_SENT

    def _field(self, shape: str, name: str, field: Mapping[str, Any], sent: bool, within: Sequence[str]) -> Any:
        for said in (f"{shape}.{name}", name):
            if said in FIELDS and self._fits(FIELDS[said], field):
                return FIELDS[said]
        return self.sample(field, sent=sent, within=within)

    def _fits(self, value: object, schema: Mapping[str, Any]) -> bool:
        schema, _ = self._resolved(schema, ())
        if "anyOf" in schema:
            return any(self._fits(value, each) for each in schema["anyOf"])
        if "const" in schema or "enum" in schema:
            return value in schema.get("enum", [schema.get("const")])
        kind = TYPES.get(schema.get("type", ""))
        return kind is None or (isinstance(value, kind) and (kind is bool or not isinstance(value, bool)))

    def _choice(self, choices: Sequence[Mapping[str, Any]], within: Sequence[str]) -> Mapping[str, Any]:
        """The first that is a value, and is not what it stands in."""
        values = [each for each in choices if each.get("type") != "null" and each.get("$ref") not in within]
        return values[0] if values else {"const": None}

    def _resolved(self, schema: Mapping[str, Any], within: Sequence[str]) -> tuple[Mapping[str, Any], Sequence[str]]:
        while "$ref" in schema:
            within = (*within, schema["$ref"])
            schema = self._schemas[schema["$ref"].removeprefix(SCHEMAS)]
        return schema, within
