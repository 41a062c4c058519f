"""Products: what sellers offer, and the files that buyers will get. Buyers' downloads are the orders' business."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from enum import StrEnum
from functools import partial
from typing import Annotated
from uuid import UUID

from pydantic import AfterValidator, BaseModel, Field, StringConstraints
from quart import Blueprint
from quart_schema import DataSource, document_request, validate_querystring, validate_request, validate_response

from veza.domain.accounts import User
from veza.domain.catalog import (
    DESCRIPTION_LENGTH,
    MAX_PRICE_CENTS,
    SEARCH_LENGTH,
    TAG_LENGTH,
    TITLE_LENGTH,
    Changes,
    Listing,
    Product,
    ProductFile,
    ProductStatus,
    ProductType,
    Sort,
    change,
    check_listing,
    check_new_file,
    check_owner,
    check_title,
    is_open_to,
    no_product,
    offer,
)
from veza.domain.errors import Invalid
from veza.domain.media import MediaKind
from veza.gateways.objects.headers import media_type
from veza.http.auth import caller, caller_if_any, login_optional, login_required
from veza.http.body import UploadLimits
from veza.http.deadline import renew
from veza.http.envelope import Body, DeletedOut, Envelope, Out
from veza.http.fields import WholeNumber, checked
from veza.http.paging import Paging
from veza.http.parts import parts
from veza.http.refusals import refuses
from veza.http.uploads import keeping, receive_file

MAX_BIGINT = 2**63 - 1
UPLOAD_SECONDS = 6 * 3600.0  # 2 GB at the 1 Mbit/s of a poor line take five; the body's reader ends what stalls

api = Blueprint("products", __name__)

PRODUCTS = "/marketplace/products"
PRODUCT = f"{PRODUCTS}/<uuid:product_id>"
FILES = f"{PRODUCT}/files"

Title = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=TITLE_LENGTH),
    AfterValidator(checked(check_title)),
]
Description = Annotated[str, StringConstraints(max_length=DESCRIPTION_LENGTH)]
Price = Annotated[int, Field(ge=0, le=MAX_PRICE_CENTS)]


class SellerOut(Out):
    id: UUID
    username: str


class RatingOut(Out):
    average: float | None
    count: int


class ProductOut(Out):
    """``price_cents`` is in minor units of ``currency``; ``rating.average`` is null until somebody has rated, each URL
    while there is nothing to see or hear."""

    id: UUID
    seller_id: UUID
    seller: SellerOut
    title: str
    description: str
    product_type: ProductType
    price_cents: int
    currency: str
    tags: tuple[str, ...]
    status: ProductStatus
    rating: RatingOut
    cover_url: str | None
    preview_url: str | None
    created_at: datetime
    updated_at: datetime


class ProductsOut(Out):
    """``total`` is counted up to 10,000; a longer list says 10,000, or what is seen by then if that is more."""

    products: list[ProductOut]
    total: int


class FileOut(Out):
    id: UUID
    product_id: UUID
    filename: str
    content_type: str
    size_bytes: int
    created_at: datetime


class FilesOut(Out):
    files: list[FileOut]
    total: int


class Shelf(StrEnum):
    """Which products of a seller are listed."""

    PUBLISHED = "published"
    DRAFT = "draft"
    ARCHIVED = "archived"
    ALL = "all"

    @property
    def status(self) -> ProductStatus | None:
        return None if self is Shelf.ALL else ProductStatus(self)


class ListQuery(Paging):
    """Prices are in minor units, both ends included. ``status`` other than published is for the seller's own shelf."""

    search: str | None = Field(None, max_length=SEARCH_LENGTH)
    seller_id: UUID | None = None
    tag: str | None = Field(None, max_length=TAG_LENGTH)
    product_type: ProductType | None = None
    min_price: Annotated[WholeNumber, Field(ge=0, le=MAX_BIGINT)] | None = None
    max_price: Annotated[WholeNumber, Field(ge=0, le=MAX_BIGINT)] | None = None
    status: Shelf = Shelf.PUBLISHED
    sort: Sort = Sort.NEWEST

    def listing(self) -> Listing:
        return Listing(
            search=(self.search or "").strip() or None,
            seller_id=self.seller_id,
            tag=self.tag or None,
            product_type=self.product_type,
            min_price=self.min_price,
            max_price=self.max_price,
            status=self.status.status,
            sort=self.sort,
        )


class NewProductBody(Body):
    title: Title
    description: Description = ""
    product_type: ProductType = ProductType.OTHER
    price_cents: Price
    currency: str | None = None
    tags: tuple[str, ...] = ()
    status: ProductStatus = ProductStatus.DRAFT

    def changes(self) -> Changes:
        return Changes(**dict(self))


class ProductBody(Body):
    """Changes what is sent. The rest of a fetched product may be sent along, and is ignored."""

    # The factories make values that are never read, as only what was sent is; unlike defaults they are in no schema.
    title: Title = Field(default_factory=str)
    description: Description = Field(default_factory=str)
    product_type: ProductType = Field(default_factory=lambda: ProductType.OTHER)
    price_cents: Price = Field(default_factory=int)
    currency: str = Field(default_factory=str)
    tags: tuple[str, ...] = Field(default_factory=tuple)
    status: ProductStatus = Field(default_factory=lambda: ProductStatus.DRAFT)
    id: object = None
    seller_id: object = None
    seller: object = None
    rating: object = None
    cover_url: object = None
    preview_url: object = None
    created_at: object = None
    updated_at: object = None

    def changes(self) -> Changes:
        writable = Changes.__dataclass_fields__.keys()
        return Changes(**{name: getattr(self, name) for name in self.model_fields_set & writable})


class UploadForm(BaseModel):
    file: bytes


@api.post(PRODUCTS)
@login_required
@validate_request(NewProductBody)
@validate_response(Envelope[ProductOut], 201)
@refuses("no_deliverable")
async def post_product(data: NewProductBody) -> tuple[Envelope[ProductOut], int]:
    """Offer something for sale.

    It begins as a draft that only its seller sees. Upload its files, then publish it by PUT with `status` published.
    `currency` may be left out; 400 for any but the platform's. Tags are folded to lower case.
    """
    product = offer(
        caller().user,
        data.changes(),
        id=parts().new_id(),
        currency=parts().settings.currency,
        now=parts().clock(),
    )
    await parts().catalog.add(product)
    return _out(product), 201


@api.get(PRODUCTS)
@login_optional
@validate_querystring(ListQuery)
@validate_response(Envelope[ProductsOut])
@refuses("forbidden")
async def list_products(query_args: ListQuery) -> Envelope[ProductsOut]:
    """What is on sale.

    `search` finds products that have all its words in title, description or tags, whatever their case and accents; the
    last word may be the beginning of one. `sort`: newest, oldest, price_asc, price_desc, rating (average, then count;
    unrated last) or popular (most sold). Sellers list their own drafts and archived products by `seller_id` with
    `status` draft, archived or all; for others that is 403.
    """
    listing = query_args.listing()
    check_listing(listing, _reader())
    page = await parts().catalog.page(listing, limit=query_args.limit, offset=query_args.offset)
    return Envelope[ProductsOut](data=ProductsOut(products=list(map(product_out, page.products)), total=page.total))


@api.get(PRODUCT)
@login_optional
@validate_response(Envelope[ProductOut])
async def get_product(product_id: UUID) -> Envelope[ProductOut]:
    """One product.

    A draft is there for its seller and admins only, an archived product and a banned seller's also for those who bought
    it; 404 for anyone else.
    """
    return _out(await product_for_reader(product_id))


@api.put(PRODUCT)
@login_required
@validate_request(ProductBody)
@validate_response(Envelope[ProductOut])
@refuses("forbidden", "no_deliverable", "conflict")
async def put_product(product_id: UUID, data: ProductBody) -> Envelope[ProductOut]:
    """Change what is sent of one's own product, and leave the rest.

    `status` published puts it on sale, which needs a file; archived takes it off. It never
    becomes a draft again. Orders keep the price they were placed at.
    """
    allow, currency, now = owned(), parts().settings.currency, parts().clock()

    def decide(product: Product, deliverables: int) -> Product:
        allow(product)
        return change(product, data.changes(), deliverables=deliverables, currency=currency, now=now)

    return _out(await parts().catalog.change(product_id, decide))


@api.delete(PRODUCT)
@login_required
@validate_response(Envelope[DeletedOut])
@refuses("forbidden")
async def delete_product(product_id: UUID) -> Envelope[DeletedOut]:
    """Delete one's own product. One that was ever ordered is archived instead: its buyers keep their files."""
    await parts().catalog.remove(product_id, owned())
    return Envelope[DeletedOut](data=DeletedOut())


@api.post(FILES)
@login_required
@document_request(UploadForm, source=DataSource.FORM_MULTIPART)
@validate_response(Envelope[FileOut], 201)
@refuses("forbidden", "conflict")
async def post_file(product_id: UUID) -> tuple[Envelope[FileOut], int]:
    """Upload a file that buyers will get.

    multipart/form-data, its bytes in the field `file`. A product has at most 100.
    """
    allow = owned()
    allow(await parts().catalog.get(product_id))
    check_new_file(len(await parts().catalog.files_of(product_id)))  # and again once it is here
    limits = UploadLimits(parts().settings.upload_max_bytes)
    usual = parts().settings.deadline_seconds
    renew(UPLOAD_SECONDS)
    incoming = await receive_file(limits)
    if not incoming.filename:
        raise Invalid("The file needs a name.", field="file")
    async with keeping(incoming) as stored:
        if not stored.size_bytes:
            raise Invalid("The file is empty.", field="file")
        renew(usual)
        file = ProductFile(
            id=parts().new_id(),
            product_id=product_id,
            object_key=stored.key,
            filename=incoming.filename,
            content_type=media_type(incoming.content_type.lower()),
            size_bytes=stored.size_bytes,
            created_at=parts().clock(),
        )
        await parts().catalog.add_file(file, allow)
    return Envelope[FileOut](data=FileOut.of(file)), 201


@api.get(FILES)
@login_required
@validate_response(Envelope[FilesOut])
@refuses("forbidden")
async def list_files(product_id: UUID) -> Envelope[FilesOut]:
    """The files of one's own product, in the order they came. All of them: there are at most 100."""
    owned()(await parts().catalog.get(product_id))
    files = await parts().catalog.files_of(product_id)
    return Envelope[FilesOut](data=FilesOut(files=list(map(FileOut.of, files)), total=len(files)))


@api.delete(f"{FILES}/<uuid:file_id>")
@login_required
@validate_response(Envelope[DeletedOut])
@refuses("forbidden", "sold", "last_deliverable")
async def delete_file(product_id: UUID, file_id: UUID) -> Envelope[DeletedOut]:
    """Take a file of one's own product away.

    Once that was sold its files stay, and while it is on sale the last one.
    """
    await parts().catalog.remove_file(product_id, file_id, owned())
    return Envelope[DeletedOut](data=DeletedOut())


async def product_for_reader(product_id: UUID) -> Product:
    """The product, if the request's reader may know of it. Raises NotFound."""
    product, reader = await parts().catalog.get(product_id), _reader()
    if is_open_to(product, reader):
        return product
    bought = reader is not None and await parts().catalog.was_bought_by(product_id, reader.id)
    if not is_open_to(product, reader, bought=bought):
        raise no_product()
    return product


def _out(product: Product) -> Envelope[ProductOut]:
    return Envelope[ProductOut](data=product_out(product))


def product_out(product: Product) -> ProductOut:
    cover, preview = (_url(product, kind) for kind in MediaKind)
    return ProductOut.of(product, cover_url=cover, preview_url=preview)


def _url(product: Product, kind: MediaKind) -> str | None:
    """Where it is seen or heard; another URL for each, so that whoever keeps one keeps no old one."""
    media = product.media(kind)
    if media is None:
        return None
    return f"{parts().settings.base_url}/api/v1{PRODUCTS}/{product.id}/{kind}?v={media.object_key[:12]}"


def _reader() -> User | None:
    found = caller_if_any()
    return None if found is None else found.user


def owned() -> Callable[[Product], None]:
    """Lets the caller's own products pass: 403 for another's that they may see, else 404."""
    return partial(check_owner, user=caller().user)
