"""A platform without keys for its providers: what needs none works, the rest says why it does not."""

from __future__ import annotations

from pathlib import Path

import trio
from pydantic import SecretStr

from tests.house import running_house
from tests.shop import Shop, data

NO_KEYS = {"hyperswitch_api_key": SecretStr(""), "stripe_secret_key": SecretStr("")}


async def test_only_what_is_free_can_be_ordered_and_nobody_comes_on_board(dsn: str, tmp_path: Path) -> None:
    with trio.fail_after(30):
        async with running_house(dsn, tmp_path, **NO_KEYS) as house:
            shop = Shop(house)
            ana, ben = await house.sign_up("ana"), await house.sign_up("ben")
            dear, gift = await shop.on_sale(ana), await shop.on_sale(ana, price_cents=0)
            refused = [await shop.order(ben, dear, key="k"), await shop.order(ben, dear, key="k")]
            boarding = await house.post("/sell/connect/onboard", ana)
            given = data(await shop.order(ben, gift))
    assert [(each.status_code, each.json()["code"]) for each in refused] == [(503, "payments_not_configured")] * 2
    assert (boarding.status_code, boarding.json()["code"]) == (503, "payouts_not_configured")
    assert given["status"] == "paid"
