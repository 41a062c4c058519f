"""Stripe's events: verified, recorded, answered. What they speak of is fetched from Stripe afterwards."""

from __future__ import annotations

import structlog
from pydantic import BaseModel
from quart import Blueprint, request
from quart_schema import security_scheme, validate_response

from veza.actors import onboarding, queue
from veza.domain.errors import Unauthenticated
from veza.gateways.stripe import verify_event
from veza.http.document import takes_bytes, takes_headers
from veza.http.envelope import Envelope, ReceivedOut
from veza.http.parts import parts
from veza.http.refusals import refuses

log = structlog.get_logger()

api = Blueprint("stripe", __name__)


class EventBody(BaseModel):
    """As Stripe sends them; other fields are ignored."""

    id: str
    type: str
    account: str | None = None
    data: dict[str, object]


@api.post("/webhooks/stripe")
@security_scheme([{"stripe": []}])
@takes_headers(stripe_signature="Over the exact bytes, by one of our endpoints' secrets.")
@validate_response(Envelope[ReceivedOut])
@takes_bytes(EventBody)
@refuses("bad_signature")
async def receive() -> Envelope[ReceivedOut]:
    """Take an event of Stripe's, signed within the last five minutes. Repeated and unknown ones are 200."""
    body: bytes = await request.body
    try:
        event = verify_event(body, request.headers.get("Stripe-Signature"), parts().selling.webhook_secrets)
    except Unauthenticated:
        log.warning("webhook_refused", provider="stripe", signed="Stripe-Signature" in request.headers)
        raise
    if await parts().connect.note(event):
        onboarding.ring(parts().refs.onboarding)
        queue.ring(parts().refs.payouts)
    return Envelope[ReceivedOut](data=ReceivedOut())
