"""Reviews: what buyers think of what they bought, and what its seller says to that."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final
from uuid import UUID

from veza.domain.accounts import Role, User
from veza.domain.catalog import Product
from veza.domain.errors import Conflict, Forbidden, NotFound

BEST: Final = 5
WORST: Final = 1
COMMENT_LENGTH: Final = 5_000
RESPONSE_LENGTH: Final = 5_000


@dataclass(frozen=True)
class Buyer:
    id: UUID
    username: str


@dataclass(frozen=True)
class Review:
    """One buyer's view of one product by one order. ``rating`` is from 1 to 5.

    ``refunded``: the money for it was given back since, which its readers may want to know.
    """

    id: UUID
    product_id: UUID
    order_id: UUID
    buyer: Buyer
    rating: int
    comment: str
    response: str | None
    responded_at: datetime | None
    refunded: bool
    created_at: datetime
    updated_at: datetime

    @property
    def buyer_id(self) -> UUID:
        return self.buyer.id


@dataclass(frozen=True)
class Purchase:
    """An order by which somebody bought a product, and whether they have reviewed it by that order."""

    order_id: UUID
    reviewed: bool


def choose_purchase(purchases: list[Purchase], order_id: UUID | None) -> UUID:
    """The order that a new review is about: the one that is named, else the latest that has none yet.

    ``purchases`` are the asker's orders of the product that were paid and not wholly given back, the latest first.
    Raises Forbidden for who did not buy it, NotFound for an order that is none of these, Conflict if each has its
    review.
    """
    if not purchases:
        raise Forbidden("Only who bought this can review it.", code="not_bought")
    named = [purchase for purchase in purchases if order_id in (None, purchase.order_id)]
    if not named:
        raise NotFound("You have no such order of this product.")
    for purchase in named:
        if not purchase.reviewed:
            return purchase.order_id
    raise Conflict("You have reviewed this already.", code="already_reviewed")


def edit(review: Review, editor: User, *, rating: int | None, comment: str | None, now: datetime) -> Review:
    """The review as its author changes it; None leaves a part as it is. Raises Forbidden for anyone else."""
    if editor.id != review.buyer_id:
        raise Forbidden("This is another buyer's review.")
    changed = replace(
        review,
        rating=review.rating if rating is None else rating,
        comment=review.comment if comment is None else comment,
    )
    return review if changed == review else replace(changed, updated_at=now)


def check_may_delete(review: Review, user: User) -> None:
    """Raises Forbidden for who is neither the author nor an admin."""
    if user.id != review.buyer_id and user.role is not Role.ADMIN:
        raise Forbidden("This is another buyer's review.")


def respond(review: Review, product: Product, seller: User, *, response: str | None, now: datetime) -> Review:
    """The review with the seller's response, or without one. Raises Forbidden for who does not sell the product."""
    if seller.id != product.seller_id:
        raise Forbidden("Only the seller of a product responds to its reviews.")
    if response == review.response:
        return review
    return replace(review, response=response, responded_at=None if response is None else now)
