"""Exports made by actors: found, held, given back, tried again, and told of; on trio's clock."""

from __future__ import annotations

from io import BytesIO
from itertools import pairwise
from random import Random
from uuid import UUID
from zipfile import ZipFile

import pytest
import structlog
import trio
from trio.testing import MockClock

from tests.actors.crash_matrix import WHERE, Once, assert_recovers
from tests.actors.export_fakes import Bureau, FakeRows, at_work
from tests.actors.fakes import LAUNCH
from veza.actors.core import State, Stopped
from veza.actors.export_job import ExportRef, ExportView
from veza.actors.exports import ExporterView, ring
from veza.actors.queue import POLL_SECONDS, Ring
from veza.domain.errors import Unavailable
from veza.domain.exports import MAX_ATTEMPTS, ExportStatus, Progress
from veza.domain.flags import Flag, Flags
from veza.gateways.objects import ObjectMissing
from veza.store.errors import DatabaseUnavailable
from veza.supervisors import permanent
from veza.supervisors.control import restart

S = ExportStatus


def elapsed(bureau: Bureau) -> list[float]:
    """Seconds between the beginnings of archives."""
    return [later - earlier for earlier, later in pairwise(bureau.begun)]


async def test_what_is_rung_for_is_made_at_once_and_told_with_its_link(autojump_clock: MockClock) -> None:
    bureau = Bureau()
    async with at_work(bureau):
        await trio.sleep(1)
        rung, export = trio.current_time(), bureau.rows.ask(1)
        ring(bureau.exporter)
        await bureau.rows.until_status(S.READY, export)
        assert trio.current_time() - rung == pytest.approx(5, abs=0.1)
    row = bureau.rows.rows[export]
    assert row.progress == Progress(2, 2, 20, 20)
    assert row.expires_at is not None
    assert (row.expires_at - LAUNCH).total_seconds() == pytest.approx(86_400 + 6, abs=1)
    link = bureau.rows.links[export]
    assert link.startswith(f"https://files.example/{row.object_key}/veza-export-2026-02-23.zip?application/zip")
    [content] = bureau.objects.kept.values()
    assert row.size_bytes == len(content)


async def test_what_nobody_rang_for_is_found_by_the_poll(autojump_clock: MockClock) -> None:
    bureau = Bureau()
    async with at_work(bureau):
        await trio.sleep(POLL_SECONDS / 2)
        export = bureau.rows.ask(1)
        await bureau.rows.until_status(S.READY, export)
        assert trio.current_time() <= POLL_SECONDS + 6


async def test_no_more_than_two_are_made_at_a_time_and_a_place_that_is_free_is_taken_at_once(
    autojump_clock: MockClock,
) -> None:
    bureau = Bureau()
    exports = [bureau.rows.ask(number) for number in range(1, 8)]
    async with at_work(bureau):
        await bureau.rows.until_status(S.READY, *exports)
        assert trio.current_time() == pytest.approx(4 * 5, abs=2)
    assert bureau.rows.most == 2
    assert len({UUID(bytes=ZipFile(BytesIO(content)).read("whose")) for content in bureau.objects.kept.values()}) == 7


async def test_a_lease_is_renewed_for_as_long_as_it_takes_and_its_row_says_how_far_it_is(
    autojump_clock: MockClock,
) -> None:
    bureau = Bureau(seconds=600)
    export = bureau.rows.ask(1)
    async with at_work(bureau):
        await bureau.rows.until(lambda: bureau.rows.rows[export].progress == Progress(1, 2, 10, 20))
        assert trio.current_time() == pytest.approx(300, abs=2)
        job = bureau.jobs.get(export)
        assert job is not None
        assert job.snapshot == ExportView(UUID(int=101), 1, Progress(1, 2, 10, 20))
        await bureau.rows.until_status(S.READY, export)
    assert max(later - earlier for earlier, later in pairwise(bureau.rows.renewed)) <= 11
    assert 60 <= len(bureau.rows.renewed) <= 65
    assert bureau.rows.numbers == 1


async def test_a_stop_gives_it_back_at_once_and_costs_no_try(autojump_clock: MockClock) -> None:
    bureau = Bureau(seconds=600)
    exports = [bureau.rows.ask(1), bureau.rows.ask(2)]
    async with at_work(bureau):
        await trio.sleep(100)
        assert {bureau.rows.rows[each].status for each in exports} == {S.RUNNING}
        await bureau.stop()
        assert trio.current_time() == pytest.approx(100, abs=0.1)
    assert {(row.status, row.attempts) for row in bureau.rows.rows.values()} == {(S.QUEUED, 0)}
    assert bureau.objects.kept == {}
    again = Bureau(bureau.rows)
    async with at_work(again):
        await again.rows.until_status(S.READY, *exports)
    assert {row.attempts for row in again.rows.rows.values()} == {1}


async def test_one_that_another_process_has_taken_is_let_go_of(autojump_clock: MockClock) -> None:
    bureau = Bureau(seconds=600)
    export = bureau.rows.ask(1)
    async with at_work(bureau):
        await trio.sleep(100)
        bureau.rows.take_away(export)
        await trio.sleep(12)
        assert bureau.jobs.keys() == []
        await trio.sleep(600)
    assert bureau.rows.rows[export].status is S.RUNNING
    assert bureau.objects.kept == {}


async def test_one_whose_lease_could_not_be_renewed_in_time_is_let_go_of(autojump_clock: MockClock) -> None:
    bureau = Bureau(seconds=600)
    export = bureau.rows.ask(1)
    async with at_work(bureau):
        await trio.sleep(5)
        bureau.rows.away = {"renew": 10_000, "claim": 25}
        await bureau.rows.until_status(S.QUEUED, export)
        assert 25 <= trio.current_time() <= 40
        bureau.rows.away["renew"] = 0
        await bureau.rows.until_status(S.READY, export)
    assert bureau.rows.rows[export].attempts == 1


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (Unavailable("away"), "storage_unavailable"),
        (DatabaseUnavailable("away"), "database_unavailable"),
        (ObjectMissing("0" * 64), "file_missing"),
        (EOFError("short"), "file_damaged"),
        (OSError("full"), "storage_failed"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
async def test_one_that_failed_is_tried_again_later_and_later_and_at_last_given_up(
    error: Exception, why: str, autojump_clock: MockClock
) -> None:
    bureau = Bureau(bugs=[error] * MAX_ATTEMPTS)
    export = bureau.rows.ask(1)
    async with at_work(bureau):
        await bureau.rows.until_status(S.FAILED, export)
    assert elapsed(bureau) == pytest.approx([60, 300, 900, 3600], abs=2 * POLL_SECONDS)
    assert (bureau.rows.rows[export].attempts, bureau.rows.rows[export].failure) == (MAX_ATTEMPTS, why)
    assert bureau.jobs.last_crash is None


async def test_one_that_could_not_be_kept_is_tried_again(autojump_clock: MockClock) -> None:
    bureau = Bureau()
    bureau.objects.fail = [Unavailable("full")]
    export = bureau.rows.ask(1)
    async with at_work(bureau):
        await bureau.rows.until_status(S.READY, export)
    assert (bureau.rows.rows[export].attempts, len(bureau.objects.kept)) == (2, 1)


async def test_a_bug_crashes_its_actor_counts_as_a_try_and_spares_the_others(autojump_clock: MockClock) -> None:
    bureau = Bureau(bugs=[RuntimeError("planted")])
    exports = [bureau.rows.ask(1), bureau.rows.ask(2)]
    with structlog.testing.capture_logs() as lines:
        async with at_work(bureau):
            await bureau.rows.until_status(S.READY, *exports)
    assert sorted(row.attempts for row in bureau.rows.rows.values()) == [1, 2]
    [crash] = [line for line in lines if line["event"] == "actor_crashed"]
    assert crash["error_type"] == "RuntimeError"
    assert not [line for line in lines if line["event"] == "actor_restarting"]


async def test_one_whose_actor_crashes_as_it_starts_is_found_again_by_its_lease(autojump_clock: MockClock) -> None:
    bureau = Bureau(planted=Once("start"))
    export = bureau.rows.ask(1)
    async with at_work(bureau):
        await bureau.rows.until_status(S.READY, export)
        assert trio.current_time() <= 30 + 2 * POLL_SECONDS
    assert bureau.planted is not None
    assert bureau.planted.done


async def test_one_whose_actor_crashes_as_it_stops_is_given_back(autojump_clock: MockClock) -> None:
    bureau = Bureau(seconds=600, planted=Once("stop"))
    export = bureau.rows.ask(1)
    async with at_work(bureau):
        await trio.sleep(100)
    assert (bureau.rows.rows[export].status, bureau.rows.rows[export].attempts) == (S.QUEUED, 0)


async def test_what_became_of_it_is_written_down_once_the_database_is_back(autojump_clock: MockClock) -> None:
    bureau = Bureau()
    bureau.rows.away = {"record": 5}
    bureau.objects.no_link = [Unavailable("away")]
    export = bureau.rows.ask(1)
    async with at_work(bureau):
        await bureau.rows.until_status(S.READY, export)
    assert len(bureau.begun) == 1


async def test_what_could_not_be_written_down_at_all_is_made_again(autojump_clock: MockClock) -> None:
    bureau = Bureau()
    bureau.rows.away = {"record": 12}
    export = bureau.rows.ask(1)
    async with at_work(bureau):
        await bureau.rows.until_status(S.READY, export)
    assert (len(bureau.begun), bureau.rows.rows[export].attempts) == (2, 2)


async def test_one_that_took_its_process_down_each_time_is_not_begun_again(autojump_clock: MockClock) -> None:
    bureau = Bureau()
    export = bureau.rows.ask(1, attempts=MAX_ATTEMPTS)
    async with at_work(bureau):
        await bureau.rows.until_status(S.FAILED, export)
    assert (bureau.begun, bureau.rows.rows[export].failure) == ([], "interrupted")


async def test_nothing_is_begun_while_the_feature_is_switched_off(autojump_clock: MockClock) -> None:
    bureau = Bureau()
    bureau.flags = Flags(off=frozenset({Flag.EXPORTS}))
    export = bureau.rows.ask(1)
    async with at_work(bureau):
        await trio.sleep(100)
        assert bureau.rows.rows[export].status is S.QUEUED
        assert bureau.exporter.snapshot == ExporterView(switched_off=True)
        bureau.flags = Flags()
        await bureau.rows.until_status(S.READY, export)
        assert bureau.exporter.snapshot == ExporterView(begun=1)


async def test_one_that_an_operator_restarts_is_begun_anew_without_costing_a_try(autojump_clock: MockClock) -> None:
    bureau = Bureau(seconds=60)
    export = bureau.rows.ask(1)
    async with at_work(bureau):
        await trio.sleep(30)
        restart(bureau.tree, f"veza/exporting/exports/{export}", 1)
        await bureau.rows.until_status(S.READY, export)
        assert trio.current_time() == pytest.approx(90, abs=2 * POLL_SECONDS)
    assert (len(bureau.begun), bureau.rows.rows[export].attempts) == (2, 1)


async def test_the_exporter_goes_on_when_the_database_is_back(autojump_clock: MockClock) -> None:
    bureau = Bureau()
    bureau.rows.away = {"claim": 3, "next_due_in": 2}
    export = bureau.rows.ask(1)
    async with at_work(bureau):
        await bureau.rows.until_status(S.READY, export)
        assert trio.current_time() < 12
        await bureau.tree.wait("veza/exporting/exporter", State.RUNNING)


async def test_what_nobody_can_be_begun_for_is_given_back(autojump_clock: MockClock) -> None:
    bureau = Bureau()

    class Leaving:
        def start(self, key: UUID) -> ExportRef:
            raise Stopped("exports")

        def keys(self) -> list[UUID]:
            return []

    bureau.rows.away = {"record": 1}
    exports = [bureau.rows.ask(1), bureau.rows.ask(2)]
    exporter = bureau.new_exporter(Leaving())
    exporter.cell = permanent("exporter", lambda: exporter)
    await exporter.run_once()
    assert [bureau.rows.rows[each].status for each in exports] == [S.RUNNING, S.QUEUED]
    assert bureau.office.in_hand == {}


@pytest.mark.parametrize("where", WHERE)
async def test_the_exporter_recovers_from_a_crash(where: str, autojump_clock: MockClock) -> None:
    bureau = Bureau(FakeRows())
    await assert_recovers(where, lambda: bureau.new_exporter(bureau.jobs), Ring())


async def test_whatever_fails_whenever_each_is_made_once(autojump_clock: MockClock) -> None:
    random = Random(21)
    bureau = Bureau(seconds=40)
    exports = [bureau.rows.ask(number) for number in range(1, 6)]
    async with at_work(bureau):
        for each in range(40):
            await trio.sleep(random.uniform(0, 30))
            call = random.choice(["claim", "renew", "record", "next_due_in"])
            bureau.rows.away[call] = random.randint(0, 3)
            if each % 10 == 0:  # four in all, so that none can fail for good
                bureau.objects.fail.append(Unavailable("away"))
        bureau.rows.away = {}
        await bureau.rows.until_status(S.READY, *exports)
    assert len(bureau.rows.links) == len(exports)
    assert bureau.rows.most == 2
    assert bureau.office.in_hand == {}
