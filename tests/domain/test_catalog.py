"""What sellers may do, who may see what, and how words are found."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from time import perf_counter
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from veza.domain.accounts import Role, User
from veza.domain.catalog import (
    MAX_FILES,
    MAX_TAGS,
    MAX_WORD,
    TAG_LENGTH,
    Changes,
    Listing,
    Product,
    ProductStatus,
    ProductType,
    change,
    check_file_removal,
    check_listing,
    check_new_file,
    check_owner,
    check_status,
    fold_tags,
    is_open_to,
    offer,
    words_of,
    words_of_product,
)
from veza.domain.errors import Conflict, Forbidden, Invalid, NotFound

NOON = datetime(2026, 2, 23, 12, tzinfo=UTC)
LATER = NOON + timedelta(hours=1)
DRAFT, PUBLISHED, ARCHIVED = ProductStatus


def user(number: int, role: Role = Role.USER) -> User:
    return User(UUID(int=number), f"user{number}", f"{number}@veza.example", role, NOON, NOON)


SELLER, STRANGER, ADMIN = user(1), user(2), user(3, Role.ADMIN)


def product(status: ProductStatus = DRAFT) -> Product:
    changes = Changes(title="Night Drive", price_cents=1999, tags=("Techno",))
    return replace(offer(SELLER, changes, id=UUID(int=9), currency="EUR", now=NOON), status=status)


def changed(before: Product, changes: Changes, deliverables: int = 1) -> Product:
    return change(before, changes, deliverables=deliverables, currency="EUR", now=LATER)


def test_an_offer_begins_as_a_draft_of_its_seller_without_ratings() -> None:
    offered = product()
    assert (offered.seller.id, offered.seller.username) == (SELLER.id, SELLER.username)
    assert offered.status is DRAFT
    assert (offered.rating.average, offered.rating.count) == (None, 0)
    assert offered.tags == ("techno",)
    assert offered.created_at == offered.updated_at == NOON


def test_an_offer_cannot_be_published_at_once_because_it_has_nothing_to_deliver() -> None:
    with pytest.raises(Conflict) as refused:
        offer(SELLER, Changes(title="x", status=PUBLISHED), id=UUID(int=9), currency="EUR", now=NOON)
    assert refused.value.code == "no_deliverable"


def test_a_change_touches_only_what_was_given() -> None:
    before = product()
    after = changed(before, Changes(price_cents=0, product_type=ProductType.BEAT))
    assert after == replace(before, price_cents=0, product_type=ProductType.BEAT, updated_at=LATER)


@pytest.mark.parametrize("changes", [Changes(), Changes(title="Night Drive", tags=("TECHNO", "techno"))])
def test_a_change_that_changes_nothing_is_no_update(changes: Changes) -> None:
    assert changed(product(), changes) == product()


def test_a_price_in_another_currency_is_refused() -> None:
    assert changed(product(), Changes(currency="EUR")) == product()
    with pytest.raises(Invalid) as refused:
        changed(product(), Changes(currency="USD"))
    assert refused.value.field == "currency"


@pytest.mark.parametrize("old", ProductStatus)
@pytest.mark.parametrize("new", ProductStatus)
@pytest.mark.parametrize("deliverables", [0, 1])
def test_what_left_the_drafts_never_returns_and_only_what_can_be_delivered_is_published(
    old: ProductStatus, new: ProductStatus, deliverables: int
) -> None:
    refused = new is not old and (new is DRAFT or (new is PUBLISHED and not deliverables))
    if refused:
        with pytest.raises(Conflict):
            check_status(old, new, deliverables=deliverables)
    else:
        check_status(old, new, deliverables=deliverables)


def test_a_product_takes_a_hundred_files_and_no_more() -> None:
    check_new_file(MAX_FILES - 1)
    with pytest.raises(Conflict):
        check_new_file(MAX_FILES)


@pytest.mark.parametrize(
    ("status", "deliverables", "sold", "code"),
    [
        (DRAFT, 1, False, None),
        (ARCHIVED, 1, False, None),
        (PUBLISHED, 2, False, None),
        (PUBLISHED, 1, False, "last_deliverable"),
        (PUBLISHED, 2, True, "sold"),
        (ARCHIVED, 2, True, "sold"),
    ],
)
def test_a_file_stays_if_it_was_sold_or_is_the_last_one_on_sale(
    status: ProductStatus, deliverables: int, sold: bool, code: str | None
) -> None:
    if code is None:
        check_file_removal(product(status), deliverables=deliverables, sold=sold)
    else:
        with pytest.raises(Conflict) as refused:
            check_file_removal(product(status), deliverables=deliverables, sold=sold)
        assert refused.value.code == code


@pytest.mark.parametrize(
    ("status", "reader", "bought", "seen"),
    [
        (PUBLISHED, None, False, True),
        (DRAFT, None, False, False),
        (DRAFT, STRANGER, True, False),
        (DRAFT, SELLER, False, True),
        (DRAFT, ADMIN, False, True),
        (ARCHIVED, None, False, False),
        (ARCHIVED, STRANGER, False, False),
        (ARCHIVED, STRANGER, True, True),
        (ARCHIVED, SELLER, False, True),
        (ARCHIVED, ADMIN, False, True),
    ],
)
def test_what_is_not_on_sale_is_seen_only_by_those_it_concerns(
    status: ProductStatus, reader: User | None, bought: bool, seen: bool
) -> None:
    assert is_open_to(product(status), reader, bought=bought) is seen


def test_anothers_product_is_forbidden_if_it_is_public_and_unknown_if_not() -> None:
    check_owner(product(), SELLER)
    with pytest.raises(Forbidden):
        check_owner(product(PUBLISHED), STRANGER)
    for status in (DRAFT, ARCHIVED):
        with pytest.raises(NotFound):
            check_owner(product(status), STRANGER)
    with pytest.raises(Forbidden):
        check_owner(product(), ADMIN)


@pytest.mark.parametrize("status", [DRAFT, ARCHIVED, None])
def test_only_a_seller_and_admins_list_what_is_not_published(status: ProductStatus | None) -> None:
    own = Listing(seller_id=SELLER.id, status=status)
    check_listing(own, SELLER)
    check_listing(own, ADMIN)
    for reader in (STRANGER, None):
        with pytest.raises(Forbidden):
            check_listing(own, reader)
    with pytest.raises(Invalid):
        check_listing(Listing(status=status), ADMIN)


def test_a_price_range_may_be_one_price_but_not_upside_down() -> None:
    check_listing(Listing(min_price=5, max_price=5), None)
    with pytest.raises(Invalid) as refused:
        check_listing(Listing(min_price=6, max_price=5), None)
    assert refused.value.field == "min_price"


def test_tags_are_folded_and_each_kept_once_in_their_order() -> None:
    assert fold_tags(["Deep  House", "808", " deep house "]) == ("deep house", "808")


@pytest.mark.parametrize("tags", [[""], ["  "], ["x" * (TAG_LENGTH + 1)], [str(n) for n in range(MAX_TAGS + 1)]])
def test_tags_that_are_empty_long_or_too_many_are_refused(tags: list[str]) -> None:
    with pytest.raises(Invalid):
        fold_tags(tags)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Night Drive", ["night", "drive"]),
        ("AC/DC lo-fi drum.kit v2.0", ["ac", "dc", "lo", "fi", "drum", "kit", "v2", "0"]),
        ("ÉTÉ à Zürich, Straße, Łódź, Ærø", ["ete", "a", "zurich", "strasse", "lodz", "aero"]),
        ("snake_case No.\u2116 \u2121 \uff21\uff22", ["snake", "case", "no", "no", "tel", "ab"]),
        ("हिन्दी संगीत", ["हिनदी", "संगीत"]),
        ("東京", ["東京"]),
        ("' & | ! <-> :* \\ ()", []),
        ("x" * 500, ["x" * MAX_WORD]),
        ("", []),
    ],
)
def test_a_text_is_cut_into_words_of_folded_letters_and_digits(text: str, words: list[str]) -> None:
    assert words_of(text) == words


def test_a_text_of_nothing_but_marks_is_cut_up_as_soon_as_any() -> None:
    began = perf_counter()
    assert words_of("a" + "\u0300" * 50_000 + "\u0316" * 50_000 + " b") == ["a", "b"]
    assert perf_counter() - began < 2.0


@given(st.text())
def test_a_word_never_holds_what_a_query_could_mistake_for_syntax(text: str) -> None:
    for word in words_of(text):
        assert not set(word) & set("'\"\\&|!()<>:*- \t\n\0")
        assert 1 <= len(word) <= MAX_WORD


@given(st.text())
def test_cutting_up_words_again_changes_nothing(text: str) -> None:
    words = words_of(text)
    assert words_of(" ".join(words)) == words


def test_a_product_is_found_by_its_title_description_and_tags() -> None:
    described = replace(product(), description="A dark, DARK track", tags=("peak time",))
    assert words_of_product(described) == ["a", "dark", "drive", "night", "peak", "time", "track"]
