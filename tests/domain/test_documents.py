"""What a document is, by its bytes and by what its sender says of them."""

from __future__ import annotations

import pytest

from veza.domain.documents import DocumentType, Text, check_new_document, format_of, type_of
from veza.domain.errors import Conflict, Invalid

FORMATS = {
    b"%PDF-1.7\n%\xe2\xe3": "application/pdf",
    b"\xff\xd8\xff\xe0\0\x10JFIF\0": "image/jpeg",
    b"\x89PNG\r\n\x1a\n\0\0\0\r": "image/png",
    b"RIFF\x24\x10\0\0WEBP": "image/webp",
    b"Bought in Lisbon": "text/plain",
}


@pytest.mark.parametrize(("head", "content_type"), FORMATS.items())
def test_each_format_is_known_by_its_bytes_whether_or_not_its_sender_knows(head: bytes, content_type: str) -> None:
    for claim in (content_type, content_type.upper(), f"{content_type}; charset=utf-8", "", "application/octet-stream"):
        assert format_of(head, claim) == content_type


@pytest.mark.parametrize(("head", "content_type"), FORMATS.items())
def test_bytes_that_are_not_what_is_said_of_them_are_not_taken(head: bytes, content_type: str) -> None:
    for claim in {*FORMATS.values(), "text/html", "image/svg+xml", "image/gif", "*/*"} - {content_type}:
        assert format_of(head, claim) is None


def test_other_names_of_a_format_are_known() -> None:
    assert format_of(b"\xff\xd8\xff\xe0", "image/jpg") == "image/jpeg"
    assert format_of(b"%PDF-1.4", "application/x-pdf") == "application/pdf"


@pytest.mark.parametrize("head", [b"RIFF\0\0\0\0WAVE", b"RIFF", b"\x89png\r\n\x1a\n", b" %PDF-1.4", b"GIF89a"])
def test_what_only_resembles_a_format_is_not_one(head: bytes) -> None:
    assert format_of(head, "") == "text/plain"  # which its other bytes have to bear out


def test_text_may_be_cut_anywhere() -> None:
    whole = "Prüfung\r\n\t„gut“\n".encode()
    for cut in range(len(whole)):
        text = Text()
        assert text.goes_on(whole[:cut])
        assert text.goes_on(whole[cut:])
        assert text.goes_on(b"", last=True)


@pytest.mark.parametrize("binary", [b"\0", b"\x1b[2J", b"\x7fELF", b"GIF89a\x01", b"\xe4", b"a\xffb", b"\xed\xa0\x80"])
def test_what_has_other_bytes_is_no_text(binary: bytes) -> None:
    text = Text()
    assert text.goes_on(b"So far ")
    assert not (text.goes_on(binary) and text.goes_on(b"", last=True))


def test_text_that_ends_within_a_character_is_none() -> None:
    text = Text()
    assert text.goes_on("für".encode()[:2])
    assert not text.goes_on(b"", last=True)


def test_a_type_is_one_of_five() -> None:
    assert [type_of(name) for name in ("invoice", "manual", "warranty", "photo", "other")] == list(DocumentType)
    for name in (None, "", "Invoice", "receipt", "photo "):
        with pytest.raises(Invalid) as refused:
            type_of(name)
        assert refused.value.field == "type"


def test_an_item_has_fifty_documents_at_most() -> None:
    check_new_document(49)
    with pytest.raises(Conflict):
        check_new_document(50)
