"""The control API of a stand-in, for tests and demos on loopback; the real providers have nothing of the kind.

==========================================  ====================================================================
``POST /sandbox/faults``                    add a fault, or a list of them: ``{"kind", "match", "times", "seconds"}``
``GET /sandbox/faults``                     the script, with how often each fired and how many requests hang in it
``DELETE /sandbox/faults[/:id]``            forget; requests hanging before their effect are dropped without it
``POST /sandbox/faults/:id/release``        let the requests that hang in a fault go on
``GET /sandbox/requests``                   the last 10,000 provider requests (``?method=&path=&idempotency_key=``)
``DELETE /sandbox/requests``                begin the log anew
``GET /sandbox/webhooks``                   the newest deliveries with their exact bodies, and the sender's settings
``POST /sandbox/webhooks``                  ``{"url": ..., "paused": ...}``: point the sender elsewhere, stop it, go on
``POST /sandbox/webhooks/:id/resend``       deliver the same bytes once more
==========================================  ====================================================================

``match`` has ``method``, ``path`` (a glob; ``:id`` stands for ``*``), ``idempotency_key`` (a glob), ``params`` (exact
values of body fields), and the shorthands ``transfer_group``, ``payment_id`` and ``destination``. ``times`` is 1 if
absent, null means for ever. Kinds, for both providers:

- ``drop_before``, ``commit_then_drop``: close the connection without an answer, before or after the effect;
- ``401``, ``429``, ``503``: answered before anything begins, nothing stored; with Stripe ``400`` (no such destination)
  and ``403`` (a permission is lacking) too, and ``409``: the idempotency key is in use;
- ``500``: the endpoint failed without an effect (Stripe stores and replays it); ``500_committed``: after its effect;
- ``hang_before``, ``hang_after``: wait for the release or ``seconds``, before or after the effect. The effect comes
  even if the client has gone meanwhile; a key that hangs before its effect is in use, after it it replays;
- ``slow``: like ``hang_before`` with ``seconds``; ``garbage``: the effect, then a body that isn't JSON;
- Stripe: ``balance_insufficient``, ``account_unknown``, ``account_invalid``, ``insufficient_capabilities``;
- Hyperswitch: ``refund_pending``, ``refund_failed``, ``refund_review``: what a refund comes to.
"""

from __future__ import annotations

from collections.abc import Callable

from quart import request
from quart_trio import QuartTrio

from veza.sandbox.desk import Desk
from veza.sandbox.faults import BadFault, FaultScript
from veza.sandbox.store import Json, Object
from veza.sandbox.webhooks import Outbox

Answer = tuple[Object, int]


async def sent() -> Object:
    """The JSON object of a control request; no body is an empty one."""
    value = await request.get_json(force=True, silent=True)
    return value if isinstance(value, dict) else {}


def not_found(what: str) -> Answer:
    return {"error": f"no such {what}"}, 404


def add_control(app: QuartTrio, faults: FaultScript, desk: Desk, outbox: Outbox) -> None:
    add_faults(app, faults)
    add_log(app, desk)
    add_webhooks(app, outbox)

    @app.get("/sandbox")
    async def hello() -> Answer:
        return {"sandbox": app.name, "moves_real_money": False}, 200


def add_faults(app: QuartTrio, faults: FaultScript) -> None:
    @app.post("/sandbox/faults")
    async def add_fault() -> Answer:
        value = await request.get_json(force=True)
        specs = value if isinstance(value, list) else [value]
        if not all(isinstance(spec, dict) for spec in specs):
            return {"error": "a fault is an object"}, 400
        try:
            added = [faults.add(spec) for spec in specs]
        except BadFault as bad:
            return {"error": str(bad)}, 400
        return {"faults": [fault.view() for fault in added]}, 201

    @app.get("/sandbox/faults")
    async def list_faults() -> Answer:
        return {"faults": faults.views()}, 200

    @app.delete("/sandbox/faults")
    async def clear_faults() -> Answer:
        faults.clear()
        return {"faults": []}, 200

    @app.delete("/sandbox/faults/<int:fault_id>")
    async def remove_fault(fault_id: int) -> Answer:
        return ({"deleted": True}, 200) if faults.remove(fault_id) else not_found("fault")

    @app.post("/sandbox/faults/<int:fault_id>/release")
    async def release_fault(fault_id: int) -> Answer:
        fault = faults.get(fault_id)
        if fault is None:
            return not_found("fault")
        fault.released.set()
        return {"fault": fault.view()}, 200


def add_log(app: QuartTrio, desk: Desk) -> None:
    @app.get("/sandbox/requests")
    async def list_requests() -> Answer:
        wanted = {name: request.args[name] for name in ("method", "path", "idempotency_key") if name in request.args}
        views: list[Json] = [
            line.view() for line in desk.log if all(getattr(line, name) == value for name, value in wanted.items())
        ]
        return {"requests": views, "count": len(views)}, 200

    @app.delete("/sandbox/requests")
    async def forget_requests() -> Answer:
        desk.log.clear()
        return {"requests": [], "count": 0}, 200


def add_webhooks(app: QuartTrio, outbox: Outbox) -> None:
    def settings() -> Object:
        return {"url": outbox.url, "paused": outbox.paused}

    @app.get("/sandbox/webhooks")
    async def list_deliveries() -> Answer:
        return {**settings(), "deliveries": list[Json](outbox.views())}, 200

    @app.post("/sandbox/webhooks")
    async def change_sender() -> Answer:
        body = await sent()
        url, paused = body.get("url"), body.get("paused")
        if isinstance(url, str):
            outbox.point_at(url)
        if isinstance(paused, bool):
            outbox.pause(paused)
        return settings(), 200

    @app.post("/sandbox/webhooks/<int:delivery_id>/resend")
    async def resend_delivery(delivery_id: int) -> Answer:
        return ({"resent": True}, 200) if outbox.resend(delivery_id) else not_found("delivery")


def run_beside(app: QuartTrio, start: Callable[[], None], stop: Callable[[], None]) -> None:
    """Start something with the app's lifespan and close it after; background work is cancelled, not waited for."""
    app.config["BACKGROUND_TASK_SHUTDOWN_TIMEOUT"] = None
    app.config["RESPONSE_TIMEOUT"] = None  # a request may hang for as long as its fault says
    app.config["BODY_TIMEOUT"] = None

    @app.before_serving
    async def begin() -> None:
        start()

    @app.after_serving
    async def end() -> None:
        stop()
