"""Tag suggestions over HTTP: of what is on sale and on air, for who is signed in."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
import trio

from tests.house import House
from tests.http.desk import refusal
from tests.shop import PRODUCTS, Shop, data

SUGGEST = "/tags/suggest"


@pytest.fixture
async def shop(house: House) -> AsyncIterator[Shop]:
    with trio.fail_after(30):
        yield Shop(house)


async def test_tags_in_use_are_suggested_in_both_shapes(shop: Shop) -> None:
    ann = await shop.house.sign_up("ann")
    track = await shop.on_sale(ann, tags=["Hip-Hop", "hipster", "Électro"])
    await shop.on_sale(ann, tags=["hiphop"])
    await shop.draft(ann, tags=["hip draft"])
    await shop.house.post("/live/streams", ann, json={"title": "On air", "tags": ["hip-hop"]})

    async def suggested(**query: Any) -> list[str]:
        answer = await shop.house.get(SUGGEST, ann, params=query)
        found: list[str] = data(answer)["suggestions"]
        assert answer.json() == {"success": True, "data": {"suggestions": found}, "suggestions": found}
        return found

    assert await suggested(q="hip") == ["hip-hop", "hiphop", "hipster"]
    assert await suggested(q=" HÍP") == ["hip-hop", "hiphop", "hipster"]
    assert await suggested(q="hip", limit=1) == ["hip-hop"]
    assert await suggested(q="elec", limit=50) == ["électro"]
    assert await suggested(q="house") == await suggested(q=" ") == await suggested(q="") == []
    await shop.house.delete(f"{PRODUCTS}/{track['id']}", ann)
    assert await suggested(q="hip") == ["hip-hop", "hiphop"]


SENSELESS: Sequence[str] = ["", "limit=10", "q=hip&limit=0", "q=hip&limit=51", "q=hip&limit=x", "q=" + "a" * 41]


async def test_a_question_that_makes_no_sense_is_refused(house: House, subtests: pytest.Subtests) -> None:
    with trio.fail_after(30):
        ann = await house.sign_up("ann")
        for query in SENSELESS:
            with subtests.test(repr(query)):
                assert refusal(await house.get(f"{SUGGEST}?{query}", ann)) == (400, "invalid")
                assert (await house.get(f"{SUGGEST}?q=hip%00", ann)).status_code == 400


async def test_it_is_for_who_is_signed_in(shop: Shop) -> None:
    assert refusal(await shop.house.get(f"{SUGGEST}?q=hip")) == (401, "unauthenticated")
