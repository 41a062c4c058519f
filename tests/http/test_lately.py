"""Whom an operator's view lets in while the database can't say who they are: an admin of the last minute."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from tests.people import People
from veza.domain.accounts import Role
from veza.http.lately import MOST, LatelyAdmins


def test_an_admin_is_remembered_for_a_quarter_of_an_hour_by_their_session_alone() -> None:
    people, lately = People(), LatelyAdmins()
    root = replace(people.user("root"), role=Role.ADMIN)
    session, now = people.session(root.id).id, people.clock()
    lately.note(session, root, now)
    assert lately.recall(session, root.id, now + timedelta(minutes=14, seconds=59)) == root
    assert lately.recall(session, root.id, now + timedelta(minutes=15)) is None
    assert lately.recall(session, people.new_id(), now) is None
    assert lately.recall(people.new_id(), root.id, now) is None


def test_whoever_is_seen_to_be_none_is_forgotten() -> None:
    people, lately = People(), LatelyAdmins()
    user = people.user("root")
    session, now = people.session(user.id).id, people.clock()
    for seen in (user, None):
        lately.note(session, replace(user, role=Role.ADMIN), now)
        lately.note(session, seen, now)
        assert lately.recall(session, user.id, now) is None


def test_so_many_are_remembered_and_the_latest_seen() -> None:
    people, lately = People(), LatelyAdmins()
    root, now = replace(people.user("root"), role=Role.ADMIN), people.clock()
    sessions = [people.new_id() for _ in range(MOST + 1)]
    for session in (*sessions[:MOST], sessions[0], sessions[MOST]):
        lately.note(session, root, now)
    assert [lately.recall(session, root.id, now) is not None for session in sessions] == [
        True,
        False,
        *[True] * (MOST - 1),
    ]
