"""Documents of gear: invoices, manuals, warranties and photos, uploaded and fetched again by their owner alone."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime
from typing import Final
from uuid import UUID

from pydantic import BaseModel
from quart import Blueprint, Response
from quart_schema import DataSource, document_request, validate_querystring, validate_response
from werkzeug.exceptions import UnsupportedMediaType

from veza.domain.documents import (
    HEAD_BYTES,
    MAX_BYTES,
    PLAIN_TEXT,
    Document,
    DocumentType,
    Text,
    check_new_document,
    format_of,
    type_of,
)
from veza.domain.errors import Invalid
from veza.http.auth import caller, login_required
from veza.http.body import UploadLimits
from veza.http.deadline import renew
from veza.http.document import sends_file
from veza.http.downloads import send_object
from veza.http.envelope import DeletedOut, Envelope, Out
from veza.http.paging import Paging
from veza.http.parts import parts
from veza.http.refusals import refuses
from veza.http.routes.gear import ITEM
from veza.http.uploads import keeping, receive_file

api = Blueprint("gear_documents", __name__)

DOCUMENTS: Final = f"{ITEM}/documents"
DOCUMENT: Final = f"{DOCUMENTS}/<uuid:document_id>"

UPLOAD_SECONDS: Final = 2 * 3600.0  # the most that is taken, at the slowest rate that is


class DocumentOut(Out):
    id: UUID
    gear_id: UUID
    type: DocumentType
    filename: str
    content_type: str
    size_bytes: int
    created_at: datetime


class DocumentsOut(Out):
    documents: list[DocumentOut]
    total: int


class DocumentForm(BaseModel):
    file: bytes
    type: DocumentType


class Recognised:
    """Chunks on their way in, which say what they are. Raises UnsupportedMediaType for what is not taken."""

    def __init__(self, chunks: AsyncIterator[bytes], claim: str) -> None:
        self.content_type = ""
        self._chunks = chunks
        self._claim = claim
        self._text = Text()

    def __aiter__(self) -> Recognised:
        return self

    async def __anext__(self) -> bytes:
        chunk = await anext(self._chunks, None) if self.content_type else await self._begin()
        if self.content_type == PLAIN_TEXT and not self._text.goes_on(chunk or b"", last=chunk is None):
            raise _not_taken()
        if chunk is None:
            raise StopAsyncIteration
        return chunk

    async def _begin(self) -> bytes:
        head = b""
        while len(head) < HEAD_BYTES and (chunk := await anext(self._chunks, None)) is not None:
            head += chunk
        if not head:
            raise Invalid("The file is empty.", field="file")
        self.content_type = format_of(head, self._claim) or ""
        if not self.content_type:
            raise _not_taken()
        return head


@api.post(DOCUMENTS)
@login_required
@document_request(DocumentForm, source=DataSource.FORM_MULTIPART)
@validate_response(Envelope[DocumentOut], 201)
@refuses("too_many_documents")
async def post_document(gear_id: UUID) -> tuple[Envelope[DocumentOut], int]:
    """Keep a document with one's own item.

    multipart/form-data, its bytes in the field `file`, what it is in `type`. PDF, JPEG, PNG, WebP or plain text in
    UTF-8, up to 25 MiB; 415 for anything else, and where the bytes are not what the part's Content-Type says (without
    one, or with application/octet-stream, it says nothing). An item has at most 50.
    """
    owner_id = caller().user.id
    check_new_document((await parts().gear.get(owner_id, gear_id)).documents_count)  # and again once it is here
    usual = parts().settings.deadline_seconds
    renew(UPLOAD_SECONDS)
    incoming = await receive_file(UploadLimits(min(MAX_BYTES, parts().settings.upload_max_bytes)))
    if not incoming.filename:
        raise Invalid("The file needs a name.", field="file")
    _check_fields(incoming.fields)  # those before the file: what is wrong is told before it is sent
    recognised = Recognised(incoming, incoming.content_type)
    async with keeping(recognised) as stored:
        _check_fields(incoming.fields)
        renew(usual)
        document = Document(
            id=parts().new_id(),
            gear_id=gear_id,
            type=type_of(incoming.fields.get("type")),
            object_key=stored.key,
            filename=incoming.filename,
            content_type=recognised.content_type,
            size_bytes=stored.size_bytes,
            created_at=parts().clock(),
        )
        await parts().gear.add_document(owner_id, document)
    return Envelope[DocumentOut](data=DocumentOut.of(document)), 201


@api.get(DOCUMENTS)
@login_required
@validate_querystring(Paging)
@validate_response(Envelope[DocumentsOut])
async def list_documents(gear_id: UUID, query_args: Paging) -> Envelope[DocumentsOut]:
    """The documents of one's own item, the newest first."""
    found = await parts().gear.documents(caller().user.id, gear_id)
    shown = list(map(DocumentOut.of, query_args.of(found)))
    return Envelope[DocumentsOut](data=DocumentsOut(documents=shown, total=len(found)))


@api.get(f"{DOCUMENT}/content")
@login_required
@sends_file
async def get_document_content(gear_id: UUID, document_id: UUID) -> Response:
    """The bytes of a document of one's own item, as they were uploaded."""
    document = await parts().gear.document(caller().user.id, gear_id, document_id)
    return await send_object(
        document.object_key,
        filename=document.filename,
        content_type=document.content_type,
        modified=document.created_at,
    )


@api.delete(DOCUMENT)
@login_required
@validate_response(Envelope[DeletedOut])
async def delete_document(gear_id: UUID, document_id: UUID) -> Envelope[DeletedOut]:
    """Delete a document of one's own item."""
    await parts().gear.remove_document(caller().user.id, gear_id, document_id)
    return Envelope[DeletedOut](data=DeletedOut())


def _check_fields(fields: dict[str, str]) -> None:
    """Raises Invalid for a field that is not the form's, and for a type there is not."""
    if fields.keys() - {"type"}:
        raise Invalid("This form has the fields file and type alone.")
    if "type" in fields:
        type_of(fields["type"])


def _not_taken() -> UnsupportedMediaType:
    return UnsupportedMediaType(
        "A document is a PDF, a JPEG, a PNG, a WebP or plain text in UTF-8, and is sent as what it is."
    )
