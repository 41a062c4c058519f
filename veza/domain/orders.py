"""Orders: what a buyer takes, at the prices and fees of that moment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from uuid import UUID

from veza.domain.catalog import ProductFile, ProductType, Seller
from veza.domain.errors import Conflict, Invalid
from veza.domain.ids import NewId
from veza.domain.payments import OrderStatus, PaymentStatus, payment_id_of

MAX_LINES = 100  # a cart, not a catalogue; it also bounds the transfers one order can make
MAX_QUANTITY = 1000  # a licence for each seat of a school fits
MAX_TOTAL_CENTS = 99_999_999  # the most that one Stripe charge can be (docs.stripe.com/currencies, minimum and maximum)


@dataclass(frozen=True)
class CartLine:
    product_id: UUID
    quantity: int


@dataclass(frozen=True)
class Offer:
    """What a product is offered at as the order is placed. ``price_cents`` is in minor units of ``currency``."""

    product_id: UUID
    seller_id: UUID
    title: str
    price_cents: int
    currency: str
    on_sale: bool


@dataclass(frozen=True)
class OrderItem:
    """A line of an order, its price frozen. Amounts are minor units of the order's currency.

    ``licence_key`` is made by the store with the line, and is the buyer's while the order entitles them to it.
    ``refunded_cents`` of it are given back, or about to be.
    """

    id: UUID
    product_id: UUID
    seller_id: UUID
    title: str
    quantity: int
    unit_price_cents: int
    total_cents: int
    licence_key: UUID | None = None
    refunded_cents: int = 0

    @property
    def gone(self) -> bool:
        """Whether all that was paid for it is given back, or about to be."""
        return 0 < self.total_cents == self.refunded_cents


@dataclass(frozen=True)
class Earning:
    """What a seller earns by an order: ``gross_cents`` less ``fee_cents``, the fee's rate in basis points beside it."""

    seller_id: UUID
    gross_cents: int
    fee_cents: int
    fee_bp: int

    @property
    def net_cents(self) -> int:
        return self.gross_cents - self.fee_cents


@dataclass(frozen=True)
class OrderPayment:
    """The payment an order waits for or was paid by. ``client_secret`` is null until the provider has it."""

    payment_id: str
    client_secret: str | None
    status: PaymentStatus | None


@dataclass(frozen=True)
class Order:
    """An order as placed; amounts in minor units of ``currency``. A free one has no payment.

    ``invoice_number`` is the store's, given when the order is paid.
    """

    id: UUID
    buyer_id: UUID
    status: OrderStatus
    currency: str
    total_cents: int
    items: tuple[OrderItem, ...]
    earnings: tuple[Earning, ...]
    created_at: datetime
    paid_at: datetime | None
    expires_at: datetime
    payment: OrderPayment | None
    invoice_number: str | None = None

    @property
    def entitles(self) -> bool:
        """Whether its buyer may have what is in it and not refunded."""
        return self.status in ENTITLING

    def entitles_to(self, item: OrderItem) -> bool:
        """Whether its buyer may have what one of its lines is of."""
        return self.entitles and not item.gone

    @property
    def unopened(self) -> bool:
        """Whether its payment is still to be opened."""
        return self.status is OrderStatus.PENDING and self.payment is not None and self.payment.client_secret is None


@dataclass(frozen=True)
class IdempotencyKey:
    """The client's name for one request, and the SHA-256 of the body it came with."""

    key: str
    body_sha256: bytes


@dataclass(frozen=True)
class Placed:
    """The order a request made; ``repeated`` if an earlier request under the same key had made it."""

    order: Order
    repeated: bool


@dataclass(frozen=True)
class Bought:
    """A product in somebody's library: ``order_id`` is the first order that brought it.

    ``quantity`` is how many they have by that order and did not give back.
    """

    product_id: UUID
    title: str
    product_type: ProductType
    seller: Seller
    order_id: UUID
    purchased_at: datetime
    licence_key: UUID
    quantity: int
    files: tuple[ProductFile, ...]


ENTITLING = frozenset({OrderStatus.PAID, OrderStatus.PARTIALLY_REFUNDED})
"""While an order is in one of these, its buyer may download what is in it."""


@dataclass(frozen=True)
class Terms:
    """The platform's side of a sale. ``fee_bp`` is in basis points of the gross amount."""

    currency: str
    fee_bp: int
    expiry: timedelta


def fee_cents(gross_cents: int, fee_bp: int) -> int:
    """The platform's fee in minor units, rounded half up.

    In integers throughout: floating point makes 299 of ten percent of 2999.
    """
    return (gross_cents * fee_bp + 5000) // 10_000


def check_cart(lines: Sequence[CartLine]) -> None:
    """Raises Invalid for a cart that no catalog could serve."""
    if not 1 <= len(lines) <= MAX_LINES:
        raise Invalid(f"An order has 1 to {MAX_LINES} items.", field="items")
    if len({line.product_id for line in lines}) != len(lines):
        raise Invalid("A product stands in an order once; use its quantity.", field="items")
    if any(not 1 <= line.quantity <= MAX_QUANTITY for line in lines):
        raise Invalid(f"A quantity is 1 to {MAX_QUANTITY}.", field="items")


def place(
    buyer_id: UUID,
    lines: Sequence[CartLine],
    offers: Mapping[UUID, Offer],
    terms: Terms,
    *,
    order_id: UUID,
    now: datetime,
    new_id: NewId,
    expected_total_cents: int | None = None,
) -> Order:
    """The order a cart makes at today's prices.

    Raises Invalid for a cart that makes no sense, and Conflict for what is not on sale, for one's own product, and for
    a total other than the buyer expected.
    """
    check_cart(lines)
    items = tuple(
        _item(buyer_id, line, offers.get(line.product_id), terms, new_id, where=f"items.{number}.product_id")
        for number, line in enumerate(lines)
    )
    total = sum(item.total_cents for item in items)
    if total > MAX_TOTAL_CENTS:
        raise Invalid(f"An order is at most {MAX_TOTAL_CENTS} minor units.", field="items")
    if expected_total_cents is not None and expected_total_cents != total:
        raise Conflict(f"The total is {total}, not {expected_total_cents}.", code="total_changed")
    return Order(
        id=order_id,
        buyer_id=buyer_id,
        status=OrderStatus.PENDING if total else OrderStatus.PAID,
        currency=terms.currency,
        total_cents=total,
        items=items,
        earnings=_earnings(items, terms.fee_bp),
        created_at=now,
        paid_at=None if total else now,
        expires_at=now + terms.expiry,
        payment=OrderPayment(payment_id_of(order_id), None, None) if total else None,
    )


def _item(buyer_id: UUID, line: CartLine, offer: Offer | None, terms: Terms, new_id: NewId, *, where: str) -> OrderItem:
    if offer is None or not offer.on_sale:
        raise Conflict("A product in this order is not on sale.", code="not_on_sale", field=where)
    if offer.seller_id == buyer_id:
        raise Conflict("This is your own product.", code="own_product", field=where)
    if offer.currency != terms.currency:
        raise Conflict("A product in this order is priced in another currency.", code="not_on_sale", field=where)
    return OrderItem(
        id=new_id(),
        product_id=offer.product_id,
        seller_id=offer.seller_id,
        title=offer.title,
        quantity=line.quantity,
        unit_price_cents=offer.price_cents,
        total_cents=offer.price_cents * line.quantity,
    )


def _earnings(items: Sequence[OrderItem], fee_bp: int) -> tuple[Earning, ...]:
    """One earning for each seller with something to earn, in the order they first appear."""
    gross: dict[UUID, int] = {}
    for item in items:
        gross[item.seller_id] = gross.get(item.seller_id, 0) + item.total_cents
    return tuple(Earning(seller, cents, fee_cents(cents, fee_bp), fee_bp) for seller, cents in gross.items() if cents)


def without_secrets(order: Order) -> Order:
    """As others than its buyer may see it: no client secret, and no licence keys."""
    return replace(
        order,
        items=tuple(replace(item, licence_key=None) for item in order.items),
        payment=order.payment and replace(order.payment, client_secret=None),
    )


def check_entitled(order: Order) -> None:
    """Raises Conflict while an order gives no right to its files."""
    if order.status in (OrderStatus.DISPUTED, OrderStatus.REFUNDED):
        raise Conflict(f"This order is {order.status}; its files are its buyer's no more.", code=order.status.value)
    if not order.entitles:
        raise Conflict(f"This order is {order.status}; its files are for orders that are paid.", code="not_paid")
