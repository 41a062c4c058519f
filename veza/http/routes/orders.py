"""Orders: placing and paying for them, and what the buyer of a paid one may download."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import Field, StringConstraints
from quart import Blueprint, Response, request
from quart_schema import validate_querystring, validate_request, validate_response

from veza.actors import payments
from veza.actors.core import AskFailed
from veza.domain.catalog import ProductFile, ProductType
from veza.domain.errors import Conflict, Unavailable
from veza.domain.orders import MAX_LINES, MAX_QUANTITY, Bought, CartLine, Order, OrderPayment, without_secrets
from veza.domain.payments import OrderStatus, PaymentStatus
from veza.http.auth import caller, login_required
from veza.http.document import sends_file, takes_headers
from veza.http.downloads import send_object
from veza.http.envelope import Body, Envelope, Out
from veza.http.idempotency import idempotency_key
from veza.http.paging import Paging
from veza.http.parts import parts
from veza.http.refusals import refuses
from veza.http.routes.objects import DownloadLinkOut, link_to
from veza.http.routes.products import SellerOut

api = Blueprint("orders", __name__)

ORDERS = "/marketplace/orders"
ORDER = f"{ORDERS}/<uuid:order_id>"
DOWNLOADS = f"{ORDER}/downloads"


class LineBody(Body):
    product_id: UUID
    quantity: Annotated[int, Field(ge=1, le=MAX_QUANTITY)] = 1


class OrderBody(Body):
    """``expected_total_cents``, in minor units, is what the buyer was shown; another total is 409."""

    items: Annotated[list[LineBody], Field(min_length=1, max_length=MAX_LINES)]
    payment_method: Annotated[str, StringConstraints(min_length=1, max_length=64)] | None = None
    expected_total_cents: Annotated[int, Field(ge=0)] | None = None

    @property
    def lines(self) -> list[CartLine]:
        return [CartLine(line.product_id, line.quantity) for line in self.items]


class ItemOut(Out):
    """``licence_key`` proves the purchase of this line, for its whole quantity; null while the order is not paid.

    ``refunded_cents`` are gone from it: given back, or about to be. A line that is gone whole gives no right any more.
    """

    id: UUID
    product_id: UUID
    title: str
    quantity: int
    unit_price_cents: int
    total_cents: int
    refunded_cents: int
    licence_key: UUID | None


class PaymentOut(Out):
    """What the client pays with: the secret and the publishable key go to the provider's own form."""

    provider: Literal["hyperswitch"] = "hyperswitch"
    payment_id: str
    client_secret: str | None
    status: PaymentStatus | None
    publishable_key: str


class OrderOut(Out):
    """Amounts are minor units of ``currency``. A free order has no payment. What is paid has an invoice number.

    Until ``expires_at`` it can be paid.
    """

    id: UUID
    status: OrderStatus
    currency: str
    total_cents: int
    items: list[ItemOut]
    created_at: datetime
    expires_at: datetime
    paid_at: datetime | None
    invoice_number: str | None
    payment: PaymentOut | None


class OrdersOut(Out):
    orders: list[OrderOut]
    total: int


class OrdersQuery(Paging):
    status: OrderStatus | None = None


class DownloadOut(Out):
    """``url`` wants the same bearer token, and honours ranges."""

    id: UUID
    product_id: UUID
    filename: str
    content_type: str
    size_bytes: int
    url: str


class DownloadsOut(Out):
    downloads: list[DownloadOut]
    total: int


class BoughtOut(Out):
    """``order_id`` is the first order that brought it; the key, the quantity and the time are that order's."""

    product_id: UUID
    title: str
    product_type: ProductType
    seller: SellerOut
    order_id: UUID
    purchased_at: datetime
    licence_key: UUID
    quantity: int
    downloads: list[DownloadOut]


class LibraryOut(Out):
    library: list[BoughtOut]
    total: int


# -- what is shown -----------------------------------------------------------------------------------------------------


def _order(order: Order) -> OrderOut:
    key = parts().checkout.publishable_key
    return OrderOut.of(
        order,
        items=[
            ItemOut.of(item, licence_key=item.licence_key if order.entitles_to(item) else None) for item in order.items
        ],
        payment=order.payment and PaymentOut.of(order.payment, publishable_key=key),
    )


def _downloads(files: Iterable[ProductFile], order_id: UUID) -> list[DownloadOut]:
    base = f"{parts().settings.base_url}/api/v1/marketplace/orders/{order_id}/downloads"
    return [DownloadOut.of(file, url=f"{base}/{file.id}") for file in files]


def _bought(bought: Bought) -> BoughtOut:
    return BoughtOut.of(bought, downloads=_downloads(bought.files, bought.order_id))


# -- buying ------------------------------------------------------------------------------------------------------------


@api.post(ORDERS)
@login_required
@takes_headers(idempotency_key="Names the request for 24 hours.")
@validate_request(OrderBody)
@validate_response(Envelope[OrderOut], 201)
@refuses(
    "not_on_sale",
    "own_product",
    "total_changed",
    "idempotency_key_reused",
    "idempotency_in_flight",
    "feature_disabled",
    "payment_refused",
    "payment_unavailable",
    "payments_not_configured",
)
async def post_order(data: OrderBody) -> tuple[Envelope[OrderOut], int]:
    """Place an order and have its payment opened.

    An ``Idempotency-Key`` header names the request for 24 hours: repeating it answers with the same order. Where the
    payment cannot be opened now (503), the same key goes on where it stopped. While ordering is switched off, a key
    that made its order before is answered all the same.
    """
    placed = await parts().orders.place(
        caller().id,
        data.lines,
        parts().checkout.terms,
        key=idempotency_key(data),
        now=parts().clock(),
        new_id=parts().new_id,
        expected_total_cents=data.expected_total_cents,
        flags=parts().flags(),
    )
    order = await _with_payment(placed.order)
    return Envelope[OrderOut](data=_order(order)), 201


@api.get(ORDERS)
@login_required
@validate_querystring(OrdersQuery)
@validate_response(Envelope[OrdersOut])
async def get_orders(query_args: OrdersQuery) -> Envelope[OrdersOut]:
    """The caller's orders, the newest first."""
    orders, total = await parts().orders.list_of(
        caller().id, status=query_args.status, limit=query_args.limit, offset=query_args.offset
    )
    return Envelope[OrdersOut](data=OrdersOut(orders=[_order(order) for order in orders], total=total))


@api.get(ORDER)
@login_required
@validate_response(Envelope[OrderOut])
async def get_order(order_id: UUID) -> Envelope[OrderOut]:
    """One of the caller's orders. For an admin any, though without what its buyer pays and proves it with."""
    if not caller().is_admin:
        return Envelope[OrderOut](data=_order(await parts().orders.get(order_id, caller().id)))
    order = await parts().orders.any(order_id)
    return Envelope[OrderOut](data=_order(order if order.buyer_id == caller().id else without_secrets(order)))


@api.post(f"{ORDER}/cancel")
@login_required
@validate_response(Envelope[OrderOut])
@refuses("payment_to_examine", "not_cancellable", "payment_unavailable")
async def cancel_order(order_id: UUID) -> Envelope[OrderOut]:
    """Cancel an order that was not paid, and its payment with it. Repeating it is fine."""
    order = await parts().orders.get(order_id, caller().id)
    if order.status is OrderStatus.PENDING:
        await payments.cancel_order(parts().refs.payments, order_id)
        order = await parts().orders.get(order_id, caller().id)
    if order.status is OrderStatus.PENDING and order.payment and order.payment.status is PaymentStatus.SUCCEEDED:
        raise Conflict("Its payment came, but not as it should have; we look into it.", code="payment_to_examine")
    if order.status is OrderStatus.PENDING:
        raise Unavailable("The payment could not be cancelled now; try again.", code="payment_unavailable")
    if order.status is not OrderStatus.CANCELLED:
        raise Conflict(f"This order is {order.status}; it can't be cancelled any more.", code="not_cancellable")
    return Envelope[OrderOut](data=_order(order))


async def _with_payment(order: Order) -> Order:
    """The order with its payment opened, by this request or by an earlier one that it repeats."""
    if order.unopened:
        order = await _open_payment(order)
    if order.status is OrderStatus.FAILED and order.payment is not None and order.payment.client_secret is None:
        raise Conflict("The payment provider refuses this order.", code="payment_refused")
    return order


async def _open_payment(order: Order) -> Order:
    if not parts().checkout.configured:
        await parts().orders.land(order)
        raise Unavailable("Payments are not set up here.", code="payments_not_configured")
    try:
        payment = await payments.open_payment(parts().refs.payments, order.id)
    except AskFailed as failed:
        if failed.outcome_known:  # nothing was begun, so a repeat need not wait for it
            await parts().orders.land(order)
        raise
    if payment is not None and payment.client_secret is not None:
        return replace(order, payment=OrderPayment(payment.payment_id, payment.client_secret, payment.status))
    order = await parts().orders.get(order.id, order.buyer_id)
    if order.unopened:
        await parts().orders.land(order)
        raise Unavailable(
            "The payment can't be opened now; repeat the request, with its Idempotency-Key if it has one.",
            code="payment_unavailable",
        )
    return order


# -- what was bought ---------------------------------------------------------------------------------------------------


@api.get(DOWNLOADS)
@login_required
@validate_querystring(Paging)
@validate_response(Envelope[DownloadsOut])
@refuses("not_paid", "refunded", "disputed")
async def get_downloads(order_id: UUID, query_args: Paging) -> Envelope[DownloadsOut]:
    """The files of one of the caller's orders, once it is paid."""
    files = await parts().library.deliverables(order_id, caller().id)
    page = _downloads(query_args.of(files), order_id)
    return Envelope[DownloadsOut](data=DownloadsOut(downloads=page, total=len(files)))


@api.get(f"{DOWNLOADS}/<uuid:file_id>")
@login_required
@sends_file
@refuses("not_paid", "refunded", "disputed")
async def download(order_id: UUID, file_id: UUID) -> Response:
    """The bytes of a file that was bought, whole or the range asked for."""
    file = await parts().library.deliverable(order_id, file_id, caller().id)
    response = await send_object(
        file.object_key,
        filename=file.filename,
        content_type=file.content_type,
        modified=file.created_at,
    )
    if request.method == "GET" and response.status_code in (200, 206):
        await parts().library.record_download(order_id, file_id, caller().id, new_id=parts().new_id)
    return response


@api.post(f"{DOWNLOADS}/<uuid:file_id>/link")
@login_required
@validate_response(Envelope[DownloadLinkOut])
@refuses("not_paid", "refunded", "disputed", "storage_unavailable")
async def post_link(order_id: UUID, file_id: UUID) -> Envelope[DownloadLinkOut]:
    """Make a link to a file that was bought.

    For a player or a browser, which can send no bearer token. Whoever has it may begin to download for five minutes; to
    ask for one is to have downloaded, as refunds see it.
    """
    file = await parts().library.deliverable(order_id, file_id, caller().id)
    link = await link_to(file.object_key, filename=file.filename, content_type=file.content_type)
    await parts().library.record_download(order_id, file_id, caller().id, new_id=parts().new_id)
    return Envelope[DownloadLinkOut](data=link)


@api.get("/marketplace/library")
@login_required
@validate_querystring(Paging)
@validate_response(Envelope[LibraryOut])
async def get_library(query_args: Paging) -> Envelope[LibraryOut]:
    """Everything the caller bought and may download, each product once, the latest first."""
    bought, total = await parts().library.page(caller().id, limit=query_args.limit, offset=query_args.offset)
    return Envelope[LibraryOut](data=LibraryOut(library=list(map(_bought, bought)), total=total))
