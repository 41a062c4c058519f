"""A sale from both sides, by a program: python -m examples.sell_a_track (with `make run` in another terminal)."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from uuid import uuid4

import httpx

from examples.veza_client import Json, Veza, new_key

PASSWORD = "correct-horse-1"  # of accounts that are made for this, and of nobody's


def sell(seller: Veza, track: Path) -> str:
    """List a track with the file that its buyers get, and publish it; the product's id."""
    listed = {"title": "Night Drive", "product_type": "track", "price_cents": 2999, "tags": ["synthwave"]}
    product: str = seller.call("POST", "/marketplace/products", json=listed)["id"]
    seller.call("POST", f"/marketplace/products/{product}/files", file=track)
    seller.call("PUT", f"/marketplace/products/{product}", json={"status": "published"})
    return product


def buy(buyer: Veza, product: str, sandbox: str) -> Json:
    """Order and pay it, as the payment provider's page would; the order, once it is paid."""
    cart = {"items": [{"product_id": product, "quantity": 1}], "payment_method": "card"}
    order: Json = buyer.call("POST", "/marketplace/orders", json=cart, key=new_key())
    httpx.post(f"{sandbox}/sandbox/payments/{order['payment']['payment_id']}/pay").raise_for_status()
    for now in polled(buyer, f"/marketplace/orders/{order['id']}"):
        if now["status"] != "pending":
            return now
    raise LookupError("polling has no end")


def polled(who: Veza, path: str) -> Iterator[Json]:
    """What is at a path, again and again: for what has no events of its own."""
    while True:
        yield who.call("GET", path)
        who.sleep(0.2)


def fetch(buyer: Veza, order: Json, to: Path) -> None:
    """Download what was bought."""
    [bought] = buyer.call("GET", f"/marketplace/orders/{order['id']}/downloads")["downloads"]
    buyer.download(bought["url"], to)


def export(buyer: Veza) -> Json:
    """Ask for everything that is held about oneself; the notification that says where it can be fetched."""
    wanted = buyer.call("POST", "/users/me/export")["id"]
    with closing(buyer.notifications(after="0")) as told:  # it may be ready before we listen
        return next(each for each in told if each["data"].get("export_id") == wanted)


def tour(url: str, sandbox: str, say: Callable[[str], object] = print) -> None:
    """All of it, against a server whose providers are the sandbox's."""
    tag = uuid4().hex[:8]
    with Veza(url) as seller, Veza(url) as buyer, tempfile.TemporaryDirectory() as made:
        ana = seller.register(f"ana-{tag}", f"ana-{tag}@example.com", PASSWORD)
        buyer.register(f"bo-{tag}", f"bo-{tag}@example.com", PASSWORD)
        track, copy = Path(made, "night-drive.wav"), Path(made, "bought.wav")
        track.write_bytes(b"RIFF....WAVE" + bytes(range(256)) * 1000)

        product = sell(seller, track)
        found = [each["title"] for each in buyer.listed("/marketplace/products", "products", seller_id=ana["id"])]
        say(f"on sale: {', '.join(found)}")
        order = buy(buyer, product, sandbox)
        say(f"{order['status']}: {order['total_cents']} {order['currency']}, invoice {order['invoice_number']}")
        fetch(buyer, order, copy)
        say("the very bytes" if copy.read_bytes() == track.read_bytes() else "other bytes")
        say(f"told: {export(buyer)['title']}")

        show = seller.call("POST", "/live/streams", json={"title": "Night Drive, live"})["id"]
        with closing(buyer.status(show)) as statuses:
            say(f"the stream is {next(statuses)['state']}")


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--url", default="http://127.0.0.1:8080", help="where Veza serves")
    arguments.add_argument("--sandbox", default="http://127.0.0.1:8082", help="where the sandbox's Hyperswitch does")
    chosen = arguments.parse_args()
    tour(chosen.url, chosen.sandbox)


if __name__ == "__main__":
    main()
