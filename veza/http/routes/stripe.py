"""Stripe's events: verified, recorded, answered. What they speak of is fetched from Stripe afterwards."""

from __future__ import annotations

import structlog
from quart import Blueprint, request
from quart_schema import validate_response

from veza.actors import onboarding, queue
from veza.domain.errors import Unauthenticated
from veza.gateways.stripe import verify_event
from veza.http.document import takes_headers
from veza.http.envelope import Envelope, ReceivedOut
from veza.http.parts import parts

log = structlog.get_logger()

api = Blueprint("stripe", __name__)


@api.post("/webhooks/stripe")
@takes_headers(stripe_signature="Over the exact bytes, by one of our endpoints' secrets.")
@validate_response(Envelope[ReceivedOut])
async def receive() -> Envelope[ReceivedOut]:
    """An event, signed within the last five minutes; 401 if it is not. Repeated and unknown ones are 200."""
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
