"""What a cloud file may be called, how it goes from version to version, and how much there may be."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from veza.domain.cloud import (
    MAX_FILES,
    MAX_SHARES,
    CloudFile,
    Content,
    Usage,
    check_name,
    check_new_file,
    check_new_share,
    check_new_version,
    check_quota,
    is_kept,
    new_file,
    rename,
    replace_content,
    snapshot,
)
from veza.domain.errors import Conflict, Invalid, TooLarge

NOON = datetime(2026, 2, 23, 12, tzinfo=UTC)
LATER = NOON + timedelta(hours=1)
ANN, FILE, SNAPSHOT = map(UUID, ("a" * 32, "f" * 32, "5" * 32))
FIRST, SECOND = Content("1" * 64, 10, "audio/wav"), Content("2" * 64, 20, "audio/flac")


def made(name: str = "take.wav") -> CloudFile:
    return new_file(ANN, name, FIRST, id=FILE, now=NOON)


@pytest.mark.parametrize(
    "name", ["a", "Größe №1.wav", "曲.flac", "🎹", "...", "..a", "a..b", "👩\u200d🎤.mp3", "x" * 255, ".hidden"]
)
def test_a_name_is_what_somebody_can_read(name: str) -> None:
    assert check_name(name) == name
    assert check_name(f" {name} ") == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        " ",
        ".",
        "..",
        "a/b",
        "/",
        "a\\b",
        "a\nb",
        "a\0",
        "a\x7f",
        "a\u2028b",
        "\ud800",
        "\u202ea",
        "\u200b",
        "x" * 256,
    ],
)
def test_a_name_is_no_path_and_hides_nothing(name: str) -> None:
    with pytest.raises(Invalid) as refused:
        check_name(name)
    assert refused.value.field == "name"
    with pytest.raises(Invalid):
        made(name)
    with pytest.raises(Invalid):
        rename(made(), name, LATER)


def test_another_name_is_not_another_version() -> None:
    file = made()
    assert rename(file, " take.wav ", LATER) == file
    assert rename(file, "final.wav", LATER) == replace(file, name="final.wav", updated_at=LATER)


def test_other_content_is_the_next_version() -> None:
    second = replace_content(made(), SECOND, LATER)
    assert (second.version, second.object_key, second.size_bytes) == (2, SECOND.object_key, 20)
    assert (second.content_type, second.name, second.updated_at) == ("audio/flac", "take.wav", LATER)
    kept = snapshot(made(), id=SNAPSHOT, now=LATER)
    assert (kept.file_id, kept.version, kept.object_key, kept.created_at) == (FILE, 1, FIRST.object_key, LATER)
    back = replace_content(second, kept, LATER)
    assert back == replace(made(), version=3, updated_at=LATER)


def test_content_is_kept_by_any_snapshot_that_has_it() -> None:
    first = made()
    kept = snapshot(first, id=SNAPSHOT, now=NOON)
    second = replace_content(first, SECOND, LATER)
    assert is_kept(replace_content(second, kept, LATER), [kept])
    assert not is_kept(second, [kept])
    assert not is_kept(replace(first, content_type="text/plain"), [kept])
    assert not is_kept(first, [])


def test_no_more_is_kept_than_the_quota_allows() -> None:
    def usage(used: int) -> Usage:
        return Usage(used, 1, 0)

    check_quota(usage(0), usage(100), 100)
    with pytest.raises(TooLarge) as refused:
        check_quota(usage(99), usage(101), 100)
    assert refused.value.code == "quota_exceeded"
    check_quota(usage(300), usage(200), 100)  # the quota was lowered, and this is less than there was
    with pytest.raises(TooLarge):
        check_quota(usage(300), usage(301), 100)


def test_there_is_no_more_of_anything_than_there_may_be() -> None:
    check_new_file(MAX_FILES - 1)
    check_new_share(MAX_SHARES - 1)
    check_new_version(1, 2)
    codes = []
    checks: list[Callable[[], None]] = [
        lambda: check_new_file(MAX_FILES),
        lambda: check_new_share(MAX_SHARES),
        lambda: check_new_version(2, 2),
    ]
    for check in checks:
        with pytest.raises(Conflict) as refused:
            check()
        codes.append(refused.value.code)
    assert codes == ["too_many_files", "too_many_shares", "too_many_versions"]
