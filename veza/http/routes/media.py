"""Covers and previews of products: uploaded by their sellers, shown to everyone who may see the product."""

from __future__ import annotations

from collections.abc import AsyncIterator
from uuid import UUID

from quart import Blueprint, Response
from quart_schema import DataSource, document_request, validate_response

from veza.domain.catalog import ProductStatus
from veza.domain.errors import NotFound
from veza.domain.media import HEAD_BYTES, MAX_BYTES, Media, MediaKind, media_type_of
from veza.http.auth import login_optional, login_required
from veza.http.body import UploadLimits
from veza.http.deadline import renew
from veza.http.document import sends_file
from veza.http.downloads import send_object
from veza.http.envelope import DeletedOut, Envelope
from veza.http.parts import parts
from veza.http.refusals import refuses
from veza.http.routes.products import (
    PRODUCT,
    UPLOAD_SECONDS,
    ProductOut,
    UploadForm,
    owned,
    product_for_reader,
    product_out,
)
from veza.http.uploads import keeping, receive_file

CACHED = "public, max-age=300"  # of what everyone may see: its URL changes with it, and a product may be withdrawn

api = Blueprint("media", __name__)

COVER, PREVIEW = ((f"{PRODUCT}/{kind}", {"kind": kind}) for kind in MediaKind)


class Recognised:
    """Chunks on their way in, the first of which say what they are. Raises Invalid for what is not of the kind."""

    def __init__(self, chunks: AsyncIterator[bytes], kind: MediaKind) -> None:
        self.content_type = ""
        self._chunks = chunks
        self._kind = kind

    def __aiter__(self) -> Recognised:
        return self

    async def __anext__(self) -> bytes:
        if self.content_type:
            return await anext(self._chunks)
        head = b""
        while len(head) < HEAD_BYTES and (chunk := await anext(self._chunks, b"")):
            head += chunk
        self.content_type = media_type_of(self._kind, head)
        return head


@api.post(COVER[0], defaults=COVER[1])
@api.post(PREVIEW[0], defaults=PREVIEW[1])
@login_required
@document_request(UploadForm, source=DataSource.FORM_MULTIPART)
@validate_response(Envelope[ProductOut], 201)
@refuses("forbidden")
async def post_media(product_id: UUID, kind: MediaKind) -> tuple[Envelope[ProductOut], int]:
    """Give one's own product a `kind`, in the place of the one before.

    multipart/form-data, its bytes in the field `file`. A cover is JPEG, PNG or WebP, up to 10 MiB; a preview MP3, Ogg,
    FLAC, WAV or M4A, up to 50 MiB.
    """
    allow = owned()
    allow(await parts().catalog.get(product_id))
    usual = parts().settings.deadline_seconds
    renew(UPLOAD_SECONDS)
    incoming = await receive_file(UploadLimits(min(MAX_BYTES[kind], parts().settings.upload_max_bytes)))
    recognised = Recognised(incoming, kind)
    async with keeping(recognised) as stored:
        renew(usual)
        media = Media(stored.key, recognised.content_type)
        product = await parts().catalog.set_media(product_id, kind, media, allow, now=parts().clock())
    return Envelope[ProductOut](data=product_out(product)), 201


@api.get(COVER[0], defaults=COVER[1])
@api.get(PREVIEW[0], defaults=PREVIEW[1])
@login_optional
@sends_file
async def get_media(product_id: UUID, kind: MediaKind) -> Response:
    """A product's `kind`. 404 while it has none."""
    product = await product_for_reader(product_id)
    media = product.media(kind)
    if media is None:
        raise NotFound(f"This product has no {kind}.")
    response = await send_object(media.object_key, filename=kind, content_type=media.content_type, disposition="inline")
    if product.status is ProductStatus.PUBLISHED:
        response.headers["Cache-Control"] = CACHED
    return response


@api.delete(COVER[0], defaults=COVER[1])
@api.delete(PREVIEW[0], defaults=PREVIEW[1])
@login_required
@validate_response(Envelope[DeletedOut])
@refuses("forbidden")
async def delete_media(product_id: UUID, kind: MediaKind) -> Envelope[DeletedOut]:
    """Take the `kind` of one's own product away."""
    await parts().catalog.set_media(product_id, kind, None, owned(), now=parts().clock())
    return Envelope[DeletedOut](data=DeletedOut())
