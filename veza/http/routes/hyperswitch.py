"""Hyperswitch's events: verified, recorded, answered. What they mean is asked of the provider afterwards."""

from __future__ import annotations

import structlog
from pydantic import BaseModel
from quart import Blueprint, request
from quart_schema import security_scheme, validate_response

from veza.actors import payments, queue
from veza.domain.errors import Invalid, Unauthenticated
from veza.gateways.hyperswitch_events import SIGNATURE_HEADERS, is_signed, read_event
from veza.http.document import takes_bytes, takes_headers
from veza.http.envelope import Envelope, ReceivedOut
from veza.http.parts import parts
from veza.http.refusals import refuses

log = structlog.get_logger()

api = Blueprint("hyperswitch", __name__)


class EventBody(BaseModel):
    """In either shape. The payment's id may also stand in ``data``, or in ``content.object``; other fields are ignored.

    Without an ``event_id`` an event is known by its bytes.
    """

    event: str | None = None
    event_type: str | None = None
    event_id: str | None = None
    payment_id: str | None = None


@api.post("/webhooks/hyperswitch")
@security_scheme([{"hyperswitch": []}])
@takes_headers(x_webhook_signature_512="Over the exact bytes, with our secret.")
@validate_response(Envelope[ReceivedOut])
@takes_bytes(EventBody)
@refuses("bad_signature")
async def receive() -> Envelope[ReceivedOut]:
    """Take an event of Hyperswitch's, signed over its exact bytes.

    Repeated ones, and ones about nothing here, are 200.
    """
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
