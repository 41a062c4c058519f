"""Reviews of products: anyone reads them, buyers write them, sellers respond."""

from __future__ import annotations

from datetime import datetime
from functools import partial
from typing import Annotated
from uuid import UUID

from pydantic import Field, StringConstraints
from quart import Blueprint
from quart_schema import validate_querystring, validate_request, validate_response

from veza.domain.reviews import (
    BEST,
    COMMENT_LENGTH,
    RESPONSE_LENGTH,
    WORST,
    Buyer,
    Review,
    check_may_delete,
    choose_purchase,
    edit,
    respond,
)
from veza.http.auth import caller, login_optional, login_required
from veza.http.envelope import Body, DeletedOut, Envelope, Out
from veza.http.paging import Paging
from veza.http.parts import parts
from veza.http.refusals import refuses
from veza.http.routes.products import PRODUCT, product_for_reader

api = Blueprint("reviews", __name__)

REVIEWS = f"{PRODUCT}/reviews"
REVIEW = f"{REVIEWS}/<uuid:review_id>"

Rating = Annotated[int, Field(ge=WORST, le=BEST)]
Comment = Annotated[str, StringConstraints(strip_whitespace=True, max_length=COMMENT_LENGTH)]
Response = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=RESPONSE_LENGTH)]


class BuyerOut(Out):
    id: UUID
    username: str


class ReviewOut(Out):
    """``refunded``: the money for what it is about was given back."""

    id: UUID
    product_id: UUID
    buyer_id: UUID
    buyer: BuyerOut
    order_id: UUID
    rating: int
    comment: str
    response: str | None
    responded_at: datetime | None
    refunded: bool
    created_at: datetime
    updated_at: datetime


class ReviewsOut(Out):
    reviews: list[ReviewOut]
    total: int


class NewReviewBody(Body):
    """``order_id`` says by which order, for who bought it more than once; else it is the latest without a review."""

    rating: Rating
    comment: Comment = ""
    order_id: UUID | None = None


class ReviewBody(Body):
    """Changes what is sent. The rest of a fetched review may be sent along, and is ignored."""

    # The factories make values that are never read, as only what was sent is; unlike defaults they are in no schema.
    rating: Rating = Field(default_factory=lambda: BEST)
    comment: Comment = Field(default_factory=str)
    id: object = None
    product_id: object = None
    buyer_id: object = None
    buyer: object = None
    order_id: object = None
    response: object = None
    responded_at: object = None
    refunded: object = None
    created_at: object = None
    updated_at: object = None


class ResponseBody(Body):
    """Null takes the response away."""

    response: Response | None


@api.get(REVIEWS)
@login_optional
@validate_querystring(Paging)
@validate_response(Envelope[ReviewsOut])
async def get_reviews(product_id: UUID, query_args: Paging) -> Envelope[ReviewsOut]:
    """A product's reviews, the newest first."""
    await product_for_reader(product_id)
    found, total = await parts().reviews.page(product_id, limit=query_args.limit, offset=query_args.offset)
    return Envelope[ReviewsOut](data=ReviewsOut(reviews=list(map(ReviewOut.of, found)), total=total))


@api.post(REVIEWS)
@login_required
@validate_request(NewReviewBody)
@validate_response(Envelope[ReviewOut], 201)
@refuses("not_bought", "already_reviewed")
async def post_review(product_id: UUID, data: NewReviewBody) -> tuple[Envelope[ReviewOut], int]:
    """Review what one bought, once for each order of it."""
    await product_for_reader(product_id)
    user, now = caller().user, parts().clock()
    order_id = choose_purchase(await parts().reviews.purchases(product_id, user.id), data.order_id)
    review = Review(
        id=parts().new_id(),
        product_id=product_id,
        order_id=order_id,
        buyer=Buyer(user.id, user.username),
        rating=data.rating,
        comment=data.comment,
        response=None,
        responded_at=None,
        refunded=False,
        created_at=now,
        updated_at=now,
    )
    await parts().reviews.add(review)
    return Envelope[ReviewOut](data=ReviewOut.of(review)), 201


@api.put(REVIEW)
@login_required
@validate_request(ReviewBody)
@validate_response(Envelope[ReviewOut])
@refuses("forbidden")
async def put_review(product_id: UUID, review_id: UUID, data: ReviewBody) -> Envelope[ReviewOut]:
    """Change one's own review."""
    change = partial(
        edit,
        editor=caller().user,
        rating=data.rating if "rating" in data.model_fields_set else None,
        comment=data.comment if "comment" in data.model_fields_set else None,
        now=parts().clock(),
    )
    return Envelope[ReviewOut](data=ReviewOut.of(await parts().reviews.change(product_id, review_id, change)))


@api.delete(REVIEW)
@login_required
@validate_response(Envelope[DeletedOut])
@refuses("forbidden")
async def delete_review(product_id: UUID, review_id: UUID) -> Envelope[DeletedOut]:
    """Take one's own review away; admins may take away any."""
    await parts().reviews.remove(product_id, review_id, partial(check_may_delete, user=caller().user))
    return Envelope[DeletedOut](data=DeletedOut())


@api.put(f"{REVIEW}/response")
@login_required
@validate_request(ResponseBody)
@validate_response(Envelope[ReviewOut])
@refuses("forbidden")
async def put_response(product_id: UUID, review_id: UUID, data: ResponseBody) -> Envelope[ReviewOut]:
    """Respond to a review of one's own product, or take the response back."""
    product = await parts().catalog.get(product_id)
    answer = partial(respond, product=product, seller=caller().user, response=data.response, now=parts().clock())
    return Envelope[ReviewOut](data=ReviewOut.of(await parts().reviews.change(product_id, review_id, answer)))
