"""Hyperswitch's disputes. A buyer's bank opens and decides them, so all but asking for one is in the control API.

- ``POST /sandbox/payments/:id/dispute`` opens a dispute on a captured payment and answers it with 201. The body is
  optional: ``amount`` in minor units (the whole payment if absent; 400 if above it) and ``reason``. A payment can
  have several disputes; 409 if it is not captured;
- ``POST /sandbox/disputes/:id/challenge``, ``/win``, ``/lose``, ``/accept``, ``/expire`` and ``/cancel`` move a
  dispute that is opened or challenged; 409 if it is over.

Each sends its event, ``dispute_opened`` and so on, unless the body says ``{"webhook": false}``. Neither the payment's
status nor what may be refunded changes with a dispute. Published fields: ``schemas/hyperswitch.json``.
"""

from __future__ import annotations

import time
from sqlite3 import Row

from quart_trio import QuartTrio

from veza.sandbox.control import Answer, not_found, sent
from veza.sandbox.desk import Call, Reply, new_id
from veza.sandbox.hyperswitch_book import CAPTURED, PaymentBook, later_than
from veza.sandbox.hyperswitch_errors import no_dispute
from veza.sandbox.hyperswitch_payments import trusted
from veza.sandbox.store import Object, Store
from veza.sandbox.webhooks import Outbox

DISPUTE_STATUS_OF = {
    "challenge": "dispute_challenged",
    "win": "dispute_won",
    "lose": "dispute_lost",
    "accept": "dispute_accepted",
    "expire": "dispute_expired",
    "cancel": "dispute_cancelled",
}
UNDECIDED = ("dispute_opened", "dispute_challenged")
ID_LENGTH = 20  # of what follows the prefix of a dispute_id
CHALLENGE_SECONDS = 7 * 86_400  # until evidence is due: connectors set it, a week is about the shortest they give


class Disputes:
    def __init__(self, store: Store, book: PaymentBook) -> None:
        self._store = store
        self.book = book

    def retrieve(self, call: Call, dispute_id: str) -> Reply:
        trusted(call)
        if self.book.dispute(dispute_id) is None:
            raise no_dispute()
        return Reply.json(self.book.dispute_object(dispute_id))

    def open(self, payment: Row, amount: int, reason: str, *, webhook: bool) -> Object:
        now, dispute_id = time.time(), new_id("dp_", ID_LENGTH)
        row = {
            "dispute_id": dispute_id,
            "payment_id": payment["payment_id"],
            "attempt_id": f"{payment['payment_id']}_{payment['attempt_count']}",
            "amount": amount,
            "currency": payment["currency"],
            "status": "dispute_opened",
            "connector_dispute_id": new_id("du_"),
            "reason": reason,
            "created": now,
            "updated": now,
            "challenge_by": now + CHALLENGE_SECONDS,
        }
        with self._store.transaction():
            self._store.insert("disputes", row)
            return self._told(dispute_id, "dispute_opened", webhook=webhook)

    def move(self, dispute: Row, status: str, *, webhook: bool) -> Object:
        with self._store.transaction():
            self._store.run(
                "update disputes set status = ?, updated = ? where dispute_id = ?",
                status,
                later_than(dispute["updated"]),
                dispute["dispute_id"],
            )
            return self._told(dispute["dispute_id"], status, webhook=webhook)

    def _told(self, dispute_id: str, status: str, *, webhook: bool) -> Object:
        """The dispute as it is now. Its statuses are the names of its events."""
        dispute = self.book.dispute_object(dispute_id)
        if webhook:
            self.book.emit(status, "dispute_details", dispute)
        return dispute


def add_disputing(app: QuartTrio, disputes: Disputes, outbox: Outbox) -> None:
    @app.post("/sandbox/payments/<payment_id>/dispute")
    async def open_dispute(payment_id: str) -> Answer:
        options, row = await sent(), disputes.book.payment(payment_id)
        if row is None:
            return not_found("payment")
        if row["status"] not in CAPTURED:
            return {"error": f"the payment is {row['status']}"}, 409
        amount, reason = options.get("amount", row["amount"]), options.get("reason", "fraudulent")
        if not isinstance(amount, int) or isinstance(amount, bool) or not 0 < amount <= row["amount"]:
            return {"error": f"amount must be an integer from 1 to {row['amount']}"}, 400
        if not isinstance(reason, str):
            return {"error": "reason must be a string"}, 400
        opened = disputes.open(row, amount, reason, webhook=options.get("webhook", True) is True)
        outbox.ring()
        return opened, 201

    @app.post("/sandbox/disputes/<dispute_id>/<action>")
    async def move_dispute(dispute_id: str, action: str) -> Answer:
        options, row = await sent(), disputes.book.dispute(dispute_id)
        if row is None or action not in DISPUTE_STATUS_OF:
            return not_found("dispute or action")
        if row["status"] not in UNDECIDED:
            return {"error": f"the dispute is over: {row['status']}"}, 409
        moved = disputes.move(row, DISPUTE_STATUS_OF[action], webhook=options.get("webhook", True) is True)
        outbox.ring()
        return moved, 200
