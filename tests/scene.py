"""Who it takes for a payout, in a running house: a seller on board, a buyer, an admin."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import trio

from tests.house import Account, House
from tests.shop import Shop, data


@dataclass
class Scene:
    """The three of them, and what they do."""

    house: House
    shop: Shop
    ana: Account
    bo: Account
    admin: Account

    async def sold(self, **fields: object) -> None:
        await self.shop.bought(self.bo, await self.shop.on_sale(self.ana, **fields))

    async def newest(self, status: str) -> Any:
        """The newest transfer, as soon as it has this status and nothing is to come by itself."""

        def there(seen: Any) -> bool:
            return bool(seen["transfers"]) and seen["transfers"][0]["next_retry_at"] is None

        seen = await self.house.until(f"/admin/transfers?status={status}", self.admin, there)
        return seen["transfers"][0]

    async def refused_for_good(self) -> Any:
        """A transfer that the provider refused, and that waits for an admin."""
        await self.house.sandbox.stripe_control.fault("account_invalid", path="/v1/transfers")
        await self.sold()
        return await self.newest("failed")

    async def at_the_provider(self) -> int:
        return len((await self.house.sandbox.stripe_client().v1.transfers.list_async()).data)


async def set_the_scene(house: House) -> Scene:
    """Everybody has come, and the seller can be paid."""
    ana, bo = await house.sign_up("ana"), await house.sign_up("ben")
    link = data(await house.post("/sell/connect/onboard", ana))["onboarding_url"]
    with trio.fail_after(20):
        await house.http.post(link, follow_redirects=True)
        await house.until("/sell/connect/status", ana, lambda seen: seen["transfers_active"])
    return Scene(house, Shop(house), ana, bo, await house.admin())
