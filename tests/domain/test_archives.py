"""What files are called in an archive."""

from __future__ import annotations

import unicodedata
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from veza.domain.archives import FOLDER_BYTES, FORBIDDEN, NAME_BYTES, Names, folder, safe_name, versioned
from veza.domain.names import BIDI_CONTROLS


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("take.wav", "take.wav"),
        ("Ünder the sea 🌊.flac", "Ünder the sea 🌊.flac"),
        ("../../etc/passwd", "_._.._etc_passwd"),
        ("a\\b:c*d?.wav", "a_b_c_d_.wav"),
        ("..", "unnamed"),
        ("", "unnamed"),
        (" . ", "unnamed"),
        (".htaccess", "_htaccess"),
        ("trailing. . ", "trailing"),
        ("con", "_con"),
        ("COM1.txt", "_COM1.txt"),
        ("console.txt", "console.txt"),
        ("a\r\nb\x00.wav", "a__b_.wav"),
        ("evil\u202egnp.exe", "evil_gnp.exe"),
        ("e\u0301.wav", "\u00e9.wav"),
    ],
)
def test_a_name_stays_as_near_to_itself_as_may_be(name: str, safe: str) -> None:
    assert safe_name(name) == safe


def test_a_long_name_is_cut_before_its_ending_and_never_inside_a_character() -> None:
    cut = safe_name("é" * 200 + ".flac")
    assert cut.endswith("é.flac")
    assert NAME_BYTES - 2 < len(cut.encode()) <= NAME_BYTES


ANYTHING = st.text(st.characters(exclude_categories=()), max_size=300)


@given(ANYTHING)
def test_whatever_it_was_it_is_one_part_of_a_path_that_every_system_takes(name: str) -> None:
    safe = safe_name(name)
    assert 0 < len(safe.encode()) <= NAME_BYTES
    assert set(safe).isdisjoint(FORBIDDEN | BIDI_CONTROLS)
    assert not {unicodedata.category(character) for character in safe} & {"Cc", "Cs", "Zl", "Zp"}
    assert safe[0] not in ". "
    assert safe[-1] not in ". "
    assert safe_name(safe) == safe


def test_a_snapshot_says_its_version_before_its_ending() -> None:
    assert versioned("take.wav", 3) == "take (version 3).wav"
    assert versioned("notes", 12) == "notes (version 12)"


def test_folders_of_things_of_one_name_are_told_apart() -> None:
    one, other = folder("Track", UUID(int=0xAB)), folder("Track", UUID(int=0xCD))
    assert (one, other) == ("Track (000000ab)", "Track (000000cd)")
    assert len(folder("é" * 200, UUID(int=1)).encode()) <= FOLDER_BYTES + len(" (00000001)")


def test_the_second_of_a_name_is_numbered_also_where_it_differs_in_case_or_in_how_accents_are_written() -> None:
    names = Names()
    given_to = ["a/é.wav", "a/É.wav", "a/e\u0301.wav", "b/é.wav", "a/é (2).wav", "a/é.wav"]
    assert list(map(names.unique, given_to)) == [
        "a/é.wav",
        "a/É (2).wav",
        "a/e\u0301 (3).wav",
        "b/é.wav",
        "a/é (2) (2).wav",
        "a/é (4).wav",
    ]


def test_ten_thousand_of_one_name_are_numbered_in_no_time() -> None:
    names = Names()
    found = {names.unique("files/cloud/take.wav") for _ in range(10_000)}
    assert len(found) == 10_000
    assert "files/cloud/take (10000).wav" in found


@given(st.lists(st.sampled_from(["a", "A", "a (2)", "a (2) (2)", "b.x", "B.X", "b (2).x"]), max_size=30))
def test_no_two_are_the_same_to_a_system_that_knows_no_case(wanted: list[str]) -> None:
    names = Names()
    found = [names.unique(path).casefold() for path in wanted]
    assert len(set(found)) == len(found)
