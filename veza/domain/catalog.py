"""The catalog: what sellers offer, in which states it can be, who may see it and how it is found."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from veza.domain.accounts import Role, User
from veza.domain.errors import Conflict, Forbidden, Invalid, NotFound
from veza.domain.media import Media, MediaKind
from veza.domain.names import check_line, few_marks

TITLE_LENGTH = 200
DESCRIPTION_LENGTH = 10_000
MAX_PRICE_CENTS = 99_999_999  # the most that one Stripe charge can be, as for an order's total
MAX_TAGS = 20
TAG_LENGTH = 40
MAX_FILES = 100  # a sample pack's folders fit; a whole library is an archive
SEARCH_LENGTH = 200  # a sentence; longer is not a search
MAX_WORD = 64  # characters of a word that are kept and compared; a lexeme may have 2 KB

UNDECOMPOSED = str.maketrans({"đ": "d", "ø": "o", "ł": "l", "\u0131": "i", "æ": "ae", "œ": "oe"})
"""Letters typed as others where a keyboard lacks them, and that Unicode does not decompose."""


class ProductType(StrEnum):
    TRACK = "track"
    ALBUM = "album"
    SAMPLE_PACK = "sample_pack"
    PRESET = "preset"
    BEAT = "beat"
    TEMPLATE = "template"
    COURSE = "course"
    OTHER = "other"


class ProductStatus(StrEnum):
    DRAFT = "draft"
    PUBLISHED = "published"
    ARCHIVED = "archived"


class Sort(StrEnum):
    NEWEST = "newest"
    OLDEST = "oldest"
    PRICE_ASC = "price_asc"
    PRICE_DESC = "price_desc"
    RATING = "rating"
    POPULAR = "popular"


@dataclass(frozen=True)
class Seller:
    id: UUID
    username: str


@dataclass(frozen=True)
class Rating:
    """``average`` is null until somebody has rated."""

    average: float | None
    count: int


@dataclass(frozen=True)
class Product:
    """Something for sale. ``price_cents`` is in minor units of ``currency``. While its seller is banned it is not."""

    id: UUID
    seller: Seller
    title: str
    description: str
    product_type: ProductType
    price_cents: int
    currency: str
    tags: tuple[str, ...]
    status: ProductStatus
    rating: Rating
    created_at: datetime
    updated_at: datetime
    cover: Media | None = None
    preview: Media | None = None
    seller_banned: bool = False

    @property
    def seller_id(self) -> UUID:
        return self.seller.id

    def media(self, kind: MediaKind) -> Media | None:
        return self.cover if kind is MediaKind.COVER else self.preview


@dataclass(frozen=True)
class ProductFile:
    """A deliverable: what the buyer gets. ``object_key`` names its bytes to the objects gateway."""

    id: UUID
    product_id: UUID
    object_key: str
    filename: str
    content_type: str
    size_bytes: int
    created_at: datetime


@dataclass(frozen=True)
class Changes:
    """What a seller changes of a product; None leaves a part as it is."""

    title: str | None = None
    description: str | None = None
    product_type: ProductType | None = None
    price_cents: int | None = None
    currency: str | None = None
    tags: tuple[str, ...] | None = None
    status: ProductStatus | None = None


@dataclass(frozen=True)
class Listing:
    """What a reader of the catalog asks for. Prices are in minor units, both ends included.

    ``status`` None means every status: for the seller's own shelf.
    """

    search: str | None = None
    seller_id: UUID | None = None
    tag: str | None = None
    product_type: ProductType | None = None
    min_price: int | None = None
    max_price: int | None = None
    status: ProductStatus | None = ProductStatus.PUBLISHED
    sort: Sort = Sort.NEWEST


@dataclass(frozen=True)
class Page:
    """A part of a listing. ``total`` is exact up to the store's limit of counting, and that limit above it."""

    products: tuple[Product, ...]
    total: int


# -- what a seller may do ---------------------------------------------------------------------------------------------


def offer(seller: User, changes: Changes, *, id: UUID, currency: str, now: datetime) -> Product:  # noqa: A002
    """A new draft. ``currency`` is the platform's. Raises Invalid, and Conflict for one that is to be published."""
    blank = Product(
        id=id,
        seller=Seller(seller.id, seller.username),
        title="",
        description="",
        product_type=ProductType.OTHER,
        price_cents=0,
        currency=currency,
        tags=(),
        status=ProductStatus.DRAFT,
        rating=Rating(None, 0),
        created_at=now,
        updated_at=now,
    )
    return change(blank, changes, deliverables=0, currency=currency, now=now)


def change(product: Product, changes: Changes, *, deliverables: int, currency: str, now: datetime) -> Product:
    """The product as changed. ``currency`` is the platform's.

    Raises Invalid for another currency or tags that make no sense, Conflict for a status that cannot follow.
    """
    if changes.currency not in (None, currency):
        raise Invalid(f"Prices here are in {currency}.", field="currency")
    if changes.status is not None:
        check_status(product.status, changes.status, deliverables=deliverables)
    given = {name: value for name, value in vars(changes).items() if value is not None}
    if changes.tags is not None:
        given["tags"] = fold_tags(changes.tags)
    changed = replace(product, **given)
    return product if changed == product else replace(changed, updated_at=now)


def check_title(title: str) -> str:
    """The title. Raises Invalid for one that nobody can see, or that would garble the text around it."""
    return check_line(title, "title")


def check_status(old: ProductStatus, new: ProductStatus, *, deliverables: int) -> None:
    """Raises Conflict for a change of status that is not allowed.

    A product can be published only while it has something to deliver, and what has left the drafts never becomes one
    again: somebody may have bought it.
    """
    if new is old:
        return
    if new is ProductStatus.DRAFT:
        raise Conflict("A product that was published or archived cannot become a draft again.")
    if new is ProductStatus.PUBLISHED and not deliverables:
        raise Conflict("Upload the file that buyers get before publishing.", code="no_deliverable")


def check_new_file(deliverables: int) -> None:
    """Raises Conflict when a product holds as many files as it can."""
    if deliverables >= MAX_FILES:
        raise Conflict(f"A product has at most {MAX_FILES} files.")


def check_file_removal(product: Product, *, deliverables: int, sold: bool) -> None:
    """Raises Conflict for a file that somebody paid for, and for the last one of a product on sale."""
    if sold:
        raise Conflict("This product was sold; its files stay for those who bought them.", code="sold")
    if product.status is ProductStatus.PUBLISHED and deliverables <= 1:
        raise Conflict("A published product keeps its last file; archive it first.", code="last_deliverable")


# -- who may see what -------------------------------------------------------------------------------------------------


def is_open_to(product: Product, reader: User | None, *, bought: bool = False) -> bool:
    """Whether a reader may know of the product.

    What is published is everyone's to see, the rest its seller's and the admins', and so is what a banned seller
    published. What was on sale can still be seen by those who bought it.
    """
    if product.status is ProductStatus.PUBLISHED and not product.seller_banned:
        return True
    if reader is None:
        return False
    if reader.id == product.seller.id or reader.role is Role.ADMIN:
        return True
    return bought and product.status is not ProductStatus.DRAFT


def check_owner(product: Product, user: User) -> None:
    """Raises Forbidden for another's product that the user may see, NotFound for one they may not know of."""
    if product.seller.id == user.id:
        return
    if is_open_to(product, user):
        raise Forbidden("This is not your product.")
    raise no_product()


def check_listing(listing: Listing, reader: User | None) -> None:
    """Raises Invalid for a listing that makes no sense, Forbidden for one that is not for this reader."""
    if listing.min_price is not None and listing.max_price is not None and listing.min_price > listing.max_price:
        raise Invalid("min_price is above max_price.", field="min_price")
    if listing.status is ProductStatus.PUBLISHED:
        return
    if listing.seller_id is None:
        raise Invalid("A status other than published is listed for one seller: give seller_id.", field="seller_id")
    if reader is None or (reader.id != listing.seller_id and reader.role is not Role.ADMIN):
        raise Forbidden("Only their seller lists products that are not published.")


def no_product() -> NotFound:
    """Says the same whether a product does not exist or is not the asker's to know of."""
    return NotFound("There is no such product.")


# -- how it is found --------------------------------------------------------------------------------------------------


def fold_tag(tag: str) -> str:
    """The form a tag is kept and compared in: case-folded, single spaces."""
    return " ".join(tag.casefold().split())


def fold_tags(tags: Iterable[str]) -> tuple[str, ...]:
    """Tags folded, each once, in the order given. Raises Invalid for too many, an empty or a long one."""
    folded = tuple(dict.fromkeys(map(fold_tag, tags)))
    if len(folded) > MAX_TAGS or not all(1 <= len(tag) <= TAG_LENGTH for tag in folded):
        raise Invalid(f"There can be at most {MAX_TAGS} tags, of 1 to {TAG_LENGTH} characters.", field="tags")
    return folded


def words_of(text: str) -> list[str]:
    """The words a text is found by: case and accents folded, nothing but letters and digits, in their order.

    Titles are names in every language, so nothing is stemmed and no word is too common. A search is cut up by the same
    rule, so what stands in a title is found by typing it.
    """
    plain = unicodedata.normalize("NFKD", few_marks(text)).casefold()
    decomposed = unicodedata.normalize("NFKD", plain).translate(UNDECOMPOSED)  # folding may compose anew
    folded = "".join(c if _is_of_a_word(c) else " " for c in decomposed if not unicodedata.combining(c))
    return [word[:MAX_WORD] for word in folded.split()]


def _is_of_a_word(character: str) -> bool:
    """Letters, digits and, since many scripts write their vowels with them, marks."""
    return character.isalnum() or unicodedata.category(character).startswith("M")


def words_of_product(product: Product) -> list[str]:
    """The words a product is found by, each once."""
    text = " ".join((product.title, product.description, *product.tags))
    return sorted(set(words_of(text)))
