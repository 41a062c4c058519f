"""Invoices and credit notes over HTTP: PDF files that say what was bought, for whom they are meant."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pypdf
import pytest
import trio

from tests.house import Account, House, running_house
from tests.http.desk import refusal
from tests.shop import ORDERS, Json, Shop, data

ISSUER = {
    "platform_legal_name": "Veza of the tests",
    "platform_legal_address": "1 Example Street|75001 Example City|FR",
    "platform_vat_id": "FR 11 123 456 782",
    "vat_rates": "20,course=5.5",
}


@dataclass
class Scene:
    house: House
    shop: Shop
    ana: Account
    ben: Account

    async def invoice(self, order: Json, by: Account | None, **headers: str) -> httpx.Response:
        return await self.house.get(f"{ORDERS}/{order['id']}/invoice", by, headers=headers)

    async def credit_note(self, order: Json, refund: Json, by: Account | None) -> httpx.Response:
        return await self.house.get(f"{ORDERS}/{order['id']}/refunds/{refund['id']}/credit-note", by)

    async def refunded(self, order: Json, **body: object) -> Json:
        """A refund that was paid back."""
        path = f"{ORDERS}/{order['id']}/refund"
        data(await self.house.post(path, self.ana, json={"reason": "It hums."} | body))
        seen = await self.house.until(f"{path}s", self.ben, lambda of: of["refunds"][-1]["status"] == "succeeded")
        newest: Json = seen["refunds"][-1]
        return newest


@pytest.fixture
async def scene(dsn: str, tmp_path: Path) -> AsyncIterator[Scene]:
    with trio.fail_after(40):
        async with running_house(dsn, tmp_path, **ISSUER) as house:
            yield Scene(house, Shop(house), await house.sign_up("ana"), await house.sign_up("ben"))


def text_of(answer: httpx.Response) -> str:
    assert answer.status_code == 200, answer.text
    return "\n".join(page.extract_text() for page in pypdf.PdfReader(io.BytesIO(answer.content)).pages)


async def test_a_buyer_takes_the_invoice_of_what_they_paid_and_it_stays_as_it_is(scene: Scene) -> None:
    track = await scene.shop.on_sale(scene.ana, title="Night Drive")
    course = await scene.shop.on_sale(scene.ana, title="Mixing", product_type="course", price_cents=1055)
    order = await scene.shop.ordered(scene.ben, track, course)
    assert refusal(await scene.invoice(order, scene.ben)) == (409, "not_paid")
    await scene.shop.pay(order)
    order = await scene.shop.until_status(scene.ben, order, "paid")
    data(await scene.shop.set(scene.ana, course, product_type="track"))  # at another rate: no business of this sale's
    answer = await scene.invoice(order, scene.ben)
    number = order["invoice_number"]
    said = text_of(answer)
    for words in (
        f"Invoice\n{number}",
        "Veza of the tests\n1 Example Street\n75001 Example City, FR\nSIREN 123456782\nVAT FR11123456782",
        "127.0.0.1",
        "ben\nben@veza.example",
        "Night Drive\nSold by ana\n1 29.99 20 % 29.99",
        "Mixing\nSold by ana\n1 10.55 5.5 % 10.55",
        "Total EUR 40.54",
    ):
        assert words in said
    assert answer.headers["content-type"] == "application/pdf"
    assert answer.headers["content-disposition"].startswith(f'attachment; filename="invoice-{number}.pdf"')
    assert answer.headers["cache-control"] == "private, no-cache"
    data(await scene.shop.set(scene.ana, track, title="Renamed"))
    known = await scene.invoice(order, scene.ben, **{"If-None-Match": answer.headers["etag"]})
    assert (known.status_code, known.content) == (304, b"")
    again = await scene.invoice(order, await scene.house.admin(), **{"If-None-Match": '"other"'})
    assert again.content == answer.content
    assert (await scene.invoice(order, None)).status_code == 401
    assert refusal(await scene.invoice(order, scene.ana)) == (403, "forbidden")
    mallory = await scene.house.sign_up("mallory")
    nowhere = await scene.invoice({"id": scene.ben.id}, scene.ben)
    strangers = await scene.invoice(order, mallory)
    assert refusal(strangers) == refusal(nowhere) == (404, "not_found")
    assert strangers.json()["error"] == nowhere.json()["error"]


async def test_each_refund_has_its_credit_note_for_the_same_people(scene: Scene) -> None:
    order = await scene.shop.bought(scene.ben, await scene.shop.on_sale(scene.ana, title="Night Drive"))
    other = await scene.shop.bought(scene.ben, await scene.shop.on_sale(scene.ana))
    refund = await scene.refunded(order, amount_cents=1000)
    answer = await scene.credit_note(order, refund, scene.ben)
    said = text_of(answer)
    for words in (
        f"Credit note\n{refund['credit_note_number']}",
        f"Corrects {order['invoice_number']}",
        "Night Drive\nSold by ana\n1 10.00 20 % 10.00",
        "20 % 8.33 1.67 10.00",
        "Reason: It hums.",
    ):
        assert words in said
    filename = f"credit-note-{refund['credit_note_number']}.pdf"
    assert answer.headers["content-disposition"].startswith(f'attachment; filename="{filename}"')
    assert (await scene.credit_note(order, refund, await scene.house.admin())).content == answer.content
    assert refusal(await scene.credit_note(other, refund, scene.ben)) == (404, "not_found")
    assert refusal(await scene.credit_note(order, refund, scene.ana)) == (403, "forbidden")
    assert refusal(await scene.credit_note(order, refund, await scene.house.sign_up("mallory"))) == (404, "not_found")
    await scene.house.sandbox.hyperswitch_control.fault("refund_pending", times=None)
    path = f"{ORDERS}/{order['id']}/refund"
    data(await scene.house.post(path, scene.ben, json={"reason": "It hums."}))
    pending = data(await scene.house.get(f"{path}s", scene.ben))["refunds"][-1]
    assert refusal(await scene.credit_note(order, pending, scene.ben)) == (409, "no_credit_note")


async def test_what_was_free_has_an_invoice_too(scene: Scene) -> None:
    order = await scene.shop.ordered(scene.ben, await scene.shop.on_sale(scene.ana, price_cents=0))
    said = text_of(await scene.invoice(order, scene.ben))
    assert "Total EUR 0.00" in said
    assert "free of charge" in said
