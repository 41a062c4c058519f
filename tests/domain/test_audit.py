"""What the audit calls a request, where an entry stands among all, and which months are made and dropped."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from uuid import UUID

import pytest

from veza.domain.audit import (
    LONGEST,
    Param,
    Place,
    Segment,
    action_of,
    following,
    month_of,
    months_over,
    months_wanted,
    resource_of,
)
from veza.domain.errors import Invalid

ANN, FILE, SHARE = (UUID(int=number) for number in (1, 2, 3))
FILES: tuple[Segment, ...] = ("cloud", "files", Param("file_id"))
NOON = datetime(2026, 2, 23, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("method", "route", "action"),
    [
        ("POST", ("auth", "login"), "auth.login.post"),
        ("DELETE", FILES, "cloud.files.delete"),
        ("POST", (*FILES, "share"), "cloud.files.share.post"),
        ("PUT", ("notifications", "read-all"), "notifications.read-all.put"),
    ],
)
def test_an_action_is_the_words_of_the_route_and_then_its_method(
    method: str, route: tuple[Segment, ...], action: str
) -> None:
    assert action_of(method, route) == action


@pytest.mark.parametrize(
    ("route", "values", "resource"),
    [
        (("cloud", "files"), {}, "cloud/files"),
        (FILES, {"file_id": FILE}, f"cloud/files/{FILE}"),
        ((*FILES, "share"), {"file_id": FILE}, f"cloud/files/{FILE}"),
        (
            (*FILES, "share", Param("share_id")),
            {"file_id": FILE, "share_id": SHARE},
            f"cloud/files/{FILE}/share/{SHARE}",
        ),
        ((*FILES, "restore", Param("version")), {"file_id": FILE, "version": 3}, f"cloud/files/{FILE}/restore/3"),
        (("users", "me", "password"), {}, f"users/{ANN}"),
        (("live", "streams", "me", "key"), {}, "live/streams/me/key"),
    ],
)
def test_a_resource_is_the_path_as_far_as_its_last_id(
    route: tuple[Segment, ...], values: dict[str, object], resource: str
) -> None:
    assert resource_of(route, values, ANN) == resource


def test_nobody_is_me_who_is_not_signed_in() -> None:
    assert resource_of(("users", "me"), {}, None) == "users/me"


@pytest.mark.parametrize("value", ["s3cret-token", "", None])
def test_what_is_no_id_is_never_shown(value: object) -> None:
    route = ("things", Param("token"), "parts", Param("part_id"))
    values = {"token": value, "part_id": FILE}
    assert resource_of(route, values, ANN) == f"things/:token/parts/{FILE}"
    assert resource_of(route[:2], values, ANN) == "things/:token"


def test_a_resource_has_an_end() -> None:
    assert len(resource_of(("parts", Param("n")), {"n": 10**4000}, None)) == LONGEST


@pytest.mark.parametrize("at", [NOON, NOON.replace(microsecond=999_999), datetime(1969, 7, 20, tzinfo=UTC)])
def test_a_place_comes_back_from_its_cursor_to_the_microsecond(at: datetime) -> None:
    place = Place(at, FILE)
    assert Place.parse(str(place)) == place


CURSOR = str(Place(NOON, FILE))


@pytest.mark.parametrize("cursor", ["", "x", CURSOR[:-1], f"{CURSOR}A", f"{CURSOR[:-1]}=", "f" * 32, f"{CURSOR}\n"])
def test_what_is_no_cursor_is_refused(cursor: str) -> None:
    with pytest.raises(Invalid) as refused:
        Place.parse(cursor)
    assert refused.value.field == "cursor"


def test_a_month_is_one_of_utc() -> None:
    assert month_of(datetime(2026, 3, 1, 0, 30, tzinfo=timezone(timedelta(hours=1)))) == date(2026, 2, 1)


def test_this_month_and_the_next_two_are_wanted_over_the_end_of_a_year() -> None:
    assert months_wanted(datetime(2026, 11, 30, tzinfo=UTC)) == [date(2026, 11, 1), date(2026, 12, 1), date(2027, 1, 1)]
    assert following(date(2024, 1, 1)) == date(2024, 2, 1)


def test_a_month_goes_when_its_last_moment_is_older_than_is_kept() -> None:
    months = [date(2026, 1, 1), date(2025, 12, 1), date(2026, 2, 1)]
    over = datetime(2026, 2, 1, tzinfo=UTC) + timedelta(days=30)
    assert months_over(months, over - timedelta(microseconds=1), 30) == [date(2025, 12, 1)]
    assert months_over(months, over, 30) == [date(2025, 12, 1), date(2026, 1, 1)]
