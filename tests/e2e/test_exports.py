"""An export from the asking to the opening, in the whole house."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trio
from pydantic import SecretStr

from tests.buckets import STORES
from tests.house import House, running_house
from tests.shop import BYTES, ORDERS, Shop, data
from tests.unpack import fetch
from veza.gateways.objects.s3 import Bucket

EXPORT = "/users/me/export"
NOTIFICATIONS = "/notifications"
FILES = "/cloud/files"


@pytest.mark.parametrize("kind", STORES)
async def test_an_export_is_asked_for_made_told_of_and_opened_by_its_link(
    dsn: str, tmp_path: Path, kind: str, request: pytest.FixtureRequest
) -> None:
    settings = {} if kind == "local" else of_bucket(request.getfixturevalue("s3").bucket())
    async with running_house(dsn, tmp_path, **settings) as house:
        await ask_and_open(house)


def of_bucket(bucket: Bucket) -> dict[str, Any]:
    return {
        "s3_bucket": bucket.name,
        "s3_endpoint_url": bucket.endpoint_url,
        "s3_region": bucket.region,
        "s3_access_key_id": SecretStr(bucket.access_key_id or ""),
        "s3_secret_access_key": SecretStr(bucket.secret_access_key or ""),
    }


async def ask_and_open(house: House) -> None:
    shop, ann, bob = Shop(house), await house.sign_up("ann"), await house.sign_up("bob")
    bought = await shop.ordered(ann, await shop.on_sale(bob, title="A gift", price_cents=0))
    await shop.on_sale(ann, title="Ünder / the sea")
    for content in (b"one", b"two"):
        data(await house.post(FILES, ann, files={"file": ("take.wav", content, "audio/wav")}))
    with trio.fail_after(20):
        answer = await house.post(EXPORT, ann)
        assert answer.status_code == 202
        asked = data(answer)
        assert asked["status"] in ("queued", "running")
        [told] = (await house.until(NOTIFICATIONS, ann, lambda seen: seen["total"]))["notifications"]
    assert (told["kind"], told["data"]["export_id"]) == ("export_ready", asked["id"])
    opened = await fetch(told["data"]["download_url"])
    assert [each["username"] for each in opened.rows("users")] == ["ann"]
    assert [each["title"] for each in opened.rows("products")] == ["Ünder / the sea"]
    files = opened.files
    invoice = files.pop(f"files/invoices/invoice-{bought['invoice_number']}.pdf")  # nobody asked for it before
    assert invoice == (await house.get(f"{ORDERS}/{bought['id']}/invoice", ann)).content
    assert sorted(files.values()) == sorted([b"one", b"two", BYTES])
    assert {"files/cloud/take.wav", "files/cloud/take (2).wav"} < set(opened.files)
    assert "What Veza holds about ann" in opened.page
    made = data(await house.get(f"/users/me/exports/{asked['id']}", ann))
    assert (made["status"], made["progress"]["files_done"], made["progress"]["files_total"]) == ("ready", 4, 4)
    assert made["expires_at"] == told["data"]["expires_at"]
    assert (await fetch(made["download_url"])).names == opened.names
