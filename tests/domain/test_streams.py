"""Streams: what a change makes of them, and whose they are to see and to change."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from tests.people import NOON, People
from veza.domain.accounts import Role
from veza.domain.catalog import MAX_TAGS
from veza.domain.errors import Conflict, Forbidden, Invalid, NotFound
from veza.domain.streams import (
    CATEGORY_LENGTH,
    MAX_STREAMS,
    Stream,
    StreamChanges,
    change,
    check_owner,
    check_room,
    draft,
    is_open_to,
)

PEOPLE = People()
ANN, BOB, ADMIN = PEOPLE.user("ann"), PEOPLE.user("bob"), PEOPLE.user("root", role=Role.ADMIN)
DRAFT = draft(ANN, id=PEOPLE.new_id(), now=NOON)
LATER = NOON + timedelta(hours=1)


def titled(title: str = "Sunday session") -> Stream:
    return change(DRAFT, StreamChanges(title=title), NOON)


def test_a_change_changes_what_is_given_and_notes_when() -> None:
    stream = change(titled(), StreamChanges(description="Beats.", category=" Live  Music ", tags=("House",)), LATER)
    assert (stream.title, stream.description, stream.category) == ("Sunday session", "Beats.", "live music")
    assert (stream.tags, stream.created_at, stream.updated_at) == (("house",), NOON, LATER)


def test_a_change_that_changes_nothing_leaves_no_trace() -> None:
    stream = replace(titled(), category="music", tags=("house",))
    same = StreamChanges(stream.title, stream.description, "Music", ("HOUSE", "house"))
    assert change(stream, same, LATER) is stream
    assert change(stream, StreamChanges(), LATER) is stream


def test_an_empty_category_takes_it_away() -> None:
    assert change(replace(titled(), category="music"), StreamChanges(category="  "), LATER).category is None


@pytest.mark.parametrize("title", ["", "\u200b", "a\nb", "\u202egnimaerts"])
def test_a_stream_with_a_title_keeps_one_that_can_be_seen(title: str) -> None:
    with pytest.raises(Invalid) as refused:
        change(titled(), StreamChanges(title=title), LATER)
    assert refused.value.field == "title"


def test_a_draft_may_go_on_without_a_title() -> None:
    described = change(DRAFT, StreamChanges(title="", description="Soon."), LATER)
    assert described.draft
    assert described.description == "Soon."
    assert not change(described, StreamChanges(title="Now"), LATER).draft


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        (StreamChanges(category="x" * (CATEGORY_LENGTH + 1)), "category"),
        (StreamChanges(category="ß" * CATEGORY_LENGTH), "category"),  # twice as long once it is folded
        (StreamChanges(tags=tuple(map(str, range(MAX_TAGS + 1)))), "tags"),
        (StreamChanges(tags=(" ",)), "tags"),
    ],
)
def test_categories_and_tags_that_make_no_sense_are_refused(changes: StreamChanges, field: str) -> None:
    with pytest.raises(Invalid) as refused:
        change(titled(), changes, LATER)
    assert refused.value.field == field


def test_a_draft_is_its_owners_alone_and_a_stream_is_everyones_to_see() -> None:
    assert [is_open_to(DRAFT, reader) for reader in (ANN, BOB, ADMIN, None)] == [True, False, False, False]
    assert all(is_open_to(titled(), reader) for reader in (ANN, BOB, ADMIN, None))


def test_others_are_refused_and_of_a_draft_they_learn_nothing() -> None:
    check_owner(DRAFT, ANN)
    for other in (BOB, ADMIN):
        with pytest.raises(Forbidden):
            check_owner(titled(), other)
        with pytest.raises(NotFound):
            check_owner(DRAFT, other)


def test_there_is_room_for_so_many_streams_and_no_more() -> None:
    check_room(MAX_STREAMS - 1)
    for streams in (MAX_STREAMS, MAX_STREAMS + 1):
        with pytest.raises(Conflict) as refused:
            check_room(streams)
        assert refused.value.code == "too_many_streams"
