"""Whether an account may go: what stands in the way, told with what to do about it."""

from __future__ import annotations

import pytest

from tests.people import NOON, People
from veza.domain.accounts import Role, check_email, check_username
from veza.domain.erasure import WHAT_TO_DO, WHY, Kept, Obstacle, check_may_erase, empty_account, refusals
from veza.domain.errors import Conflict, Invalid

NOTHING = dict.fromkeys(Obstacle, 0)


def test_an_account_with_nothing_under_way_may_go() -> None:
    check_may_erase(NOTHING)
    assert refusals(NOTHING) == []


@pytest.mark.parametrize("obstacle", list(Obstacle))
def test_each_obstacle_alone_refuses_by_its_own_code(obstacle: Obstacle) -> None:
    with pytest.raises(Conflict) as refused:
        check_may_erase({**NOTHING, obstacle: 3})
    assert refused.value.code == obstacle.value
    assert str(refused.value) == WHAT_TO_DO[obstacle]


def test_of_several_obstacles_the_first_is_told_and_all_are_known() -> None:
    counted = {**NOTHING, Obstacle.MONEY_OWED: 1, Obstacle.ORDERS_PENDING: 2}
    assert [each.code for each in refusals(counted)] == ["orders_pending", "money_owed"]
    with pytest.raises(Conflict) as refused:
        check_may_erase(counted)
    assert refused.value.code == "orders_pending"


def test_every_obstacle_says_what_to_do_and_everything_kept_says_why() -> None:
    assert set(WHAT_TO_DO) == set(Obstacle)
    assert set(WHY) == set(Kept)
    assert all(sentence.endswith(".") for sentence in (*WHAT_TO_DO.values(), *WHY.values()))


def test_nobody_can_register_as_an_erased_user() -> None:
    empty = empty_account(People().user("Ann", role=Role.ADMIN), NOON)
    assert (empty.role, empty.updated_at) == (Role.USER, NOON)
    with pytest.raises(Invalid):
        check_username(empty.username)
    with pytest.raises(Invalid):
        check_email(empty.email)
