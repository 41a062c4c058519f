"""Hyperswitch's events: verified, recorded, answered. What they mean is asked of the provider afterwards."""

from __future__ import annotations

import structlog
from quart import Blueprint, request
from quart_schema import validate_response

from veza.actors import payments, queue
from veza.domain.errors import Invalid, Unauthenticated
from veza.gateways.hyperswitch_events import SIGNATURE_HEADERS, is_signed, read_event
from veza.http.document import takes_headers
from veza.http.envelope import Envelope, ReceivedOut
from veza.http.parts import parts

log = structlog.get_logger()

api = Blueprint("hyperswitch", __name__)


@api.post("/webhooks/hyperswitch")
@takes_headers(x_webhook_signature_512="Over the exact bytes, with our secret.")
@validate_response(Envelope[ReceivedOut])
async def receive() -> Envelope[ReceivedOut]:
    """An event, signed over its exact bytes; 401 if it is not. Repeated ones, and ones about nothing here, are 200."""
    body: bytes = await request.body
    given = {name: request.headers[name] for name in SIGNATURE_HEADERS if name in request.headers}
    if not is_signed(body, given, parts().checkout.webhook_secrets):
        log.warning("webhook_refused", provider="hyperswitch", signed=bool(given))
        raise Unauthenticated("The signature does not match the body.", code="bad_signature")
    try:
        event = read_event(body)
    except ValueError:
        raise Invalid("An event is a JSON object.") from None
    about = (event.payment_id, event.refund_id, event.dispute_id)
    if await parts().payments.receive(event.event_id, event.event_type, *about):
        payments.ring(parts().refs.payments)
        queue.ring(parts().refs.refunds)
        queue.ring(parts().refs.disputes)
    return Envelope[ReceivedOut](data=ReceivedOut())
