"""Metrics, for whoever collects them: open to all, unless `METRICS_TOKEN` is set, which then is their bearer token."""

from __future__ import annotations

import hmac

from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4
from quart import Blueprint, Response
from quart_schema import document_response, security_scheme

from veza.domain.errors import Unauthenticated
from veza.http.auth import bearer
from veza.http.document import Exposed
from veza.http.edge import seats
from veza.http.legacy import legacy
from veza.http.metrics import Sources
from veza.http.parts import parts
from veza.http.refusals import refuses
from veza.http.routes.health import DEEP_SECONDS, checkup

api = Blueprint("metrics", __name__)
root = legacy("metrics_legacy")


@security_scheme([{}, {"metrics_token": []}])
@refuses("invalid_token")
async def get_metrics() -> Response:
    """Metrics, for Prometheus.

    How requests, the event loop, actors, the database, the audit and the platform's work do. Open to all, unless
    `METRICS_TOKEN` is set.
    """
    token = parts().settings.metrics_token
    if token and not hmac.compare_digest((bearer() or "").encode(), token.encode()):
        raise Unauthenticated("Send the metrics' token (Authorization: Bearer).", code="invalid_token")
    checks = await checkup().results(DEEP_SECONDS)
    sources = Sources(
        metrics=parts().metrics,
        tree=parts().tree(most=0),
        actors=await parts().control.actors(),
        seats=seats(),
        pulse=parts().pulse,
        checks={name: each.status == "ok" for name, each in checks.items() if each.status != "not_configured"},
        outbox=parts().outbox,
        now=parts().clock(),
    )
    return Response(await parts().exposition.text(sources), content_type=CONTENT_TYPE_PLAIN_0_0_4)


for blueprint in (api, root):
    blueprint.get("/metrics")(document_response(Exposed)(get_metrics))
