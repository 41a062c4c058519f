"""The inventory of what is held about people against the database itself: nothing in it is forgotten."""

from __future__ import annotations

from collections import defaultdict

import psycopg
import pytest

from veza.store.bridge import Database
from veza.store.personal_data import GROUPS, TABLES, Impersonal, Shown, Withheld, is_moment, selected, shown

COLUMNS = """
SELECT table_name, column_name, data_type FROM information_schema.columns JOIN information_schema.tables
USING (table_schema, table_name) WHERE table_schema = 'public' AND table_type = 'BASE TABLE'
AND table_name NOT LIKE '\\_yoyo\\_%' AND table_name <> 'yoyo_lock'
AND table_name NOT IN (SELECT relname FROM pg_class WHERE relispartition)
"""
NOBODY = "00000000-0000-0000-0000-000000000007"
NEVER = ("hash", "secret", "token", "sha256", "claim_id", "refresh_id", "object_key", "cover_key", "preview_key")


async def columns(db: Database) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = defaultdict(dict)
    for table, column, kind in await db.fetch(COLUMNS):
        found[table][column] = kind
    return found


def placed(name: str) -> list[str]:
    match TABLES[name]:
        case Shown(columns=seen, withheld=unseen):
            return [*seen, *unseen]
        case Withheld(columns=named) | Impersonal(columns=named):
            return [*named]


async def test_every_table_has_its_place(db: Database) -> None:
    assert set(TABLES) == set(await columns(db))


@pytest.mark.parametrize("table", sorted(TABLES))
async def test_every_column_is_either_shown_or_withheld(db: Database, table: str) -> None:
    named = placed(table)
    assert sorted(named) == sorted((await columns(db))[table])


async def test_moments_are_known_by_their_names(db: Database) -> None:
    found = await columns(db)
    for name, table in shown():
        for column in table.columns:
            assert is_moment(column) == (found[name][column] == "timestamp with time zone"), f"{name}.{column}"


def test_what_is_a_secret_by_its_name_is_never_shown() -> None:
    for name, table in shown():
        for column in table.columns:
            assert not any(word in column for word in NEVER), f"{name}.{column}"


def test_everything_about_people_has_a_title_that_a_person_would_give_it() -> None:
    titles = [table.title for table in TABLES.values() if not isinstance(table, Impersonal)]
    assert len(set(titles)) == len(titles)
    for title in titles:
        assert title[0].isupper(), title
        assert "_" not in title, title
    grouped = {name for tables in GROUPS.values() for name in tables}
    assert {name for name, table in TABLES.items() if not isinstance(table, Impersonal)} == grouped


def test_everything_is_told_in_words() -> None:
    for name, table in TABLES.items():
        match table:
            case Shown(about=about, columns=seen, withheld=unseen, instead=instead):
                told = [about, *seen.values(), *unseen.values()]
                assert about.endswith("."), name
                assert set(instead) <= set(seen), name
            case Withheld(why=why):
                told = [why]
            case Impersonal(about=about):
                told = [about]
        assert all(words.strip() for words in told), name


@pytest.mark.parametrize("table", sorted(name for name, _ in shown()))
def test_nobodys_rows_are_found_by_going_through_everybodys(dsn: str, table: str) -> None:
    entry = dict(shown())[table]
    wanted = ", ".join(selected(entry, column) for column in entry.columns)
    query = f"SELECT {wanted} FROM {table} t WHERE {entry.whose}".replace("$1", f"'{NOBODY}'::uuid")  # noqa: S608
    with psycopg.connect(dsn) as connection:
        connection.execute("SET enable_seqscan = off")  # where there is any other way, it is taken
        plan = "\n".join(line for (line,) in connection.execute(f"EXPLAIN {query}".encode()))
    assert "Seq Scan" not in plan, plan


@pytest.mark.parametrize("table", sorted(name for name, _ in shown()))
async def test_what_is_selected_is_sql_that_this_database_understands(db: Database, table: str) -> None:
    entry = dict(shown())[table]
    wanted = ", ".join(selected(entry, column) for column in entry.columns)
    assert await db.fetch(f"SELECT {wanted} FROM {table} t WHERE {entry.whose}", NOBODY) == []  # noqa: S608 - our own
