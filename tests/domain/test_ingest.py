"""What a publisher is seen doing over the polls of its server, and what is measured of it."""

from __future__ import annotations

import pytest

from veza.domain.ingest import FORGOTTEN_POLLS, Flow, Publisher, Seen, Watch

STALL = 6.0
OURS = Publisher("nginx-rtmp", "7", "boot-1")


class Polls:
    """A watch, polled every two seconds."""

    def __init__(self) -> None:
        self.watch = Watch()
        self.now = 0.0

    def see(self, bytes_in: int, client_id: str = "7", boot: str = "boot-1") -> Flow:
        self.now += 2
        self.watch.see(Seen(client_id, bytes_in), boot, self.now)
        return self.flow()

    def miss(self) -> Flow:
        self.now += 2
        self.watch.miss()
        return self.flow()

    def flow(self, publisher: Publisher = OURS) -> Flow:
        return self.watch.flow(publisher, STALL, self.now)


@pytest.fixture
def polls() -> Polls:
    return Polls()


def test_it_flows_once_its_bytes_advanced_twice(polls: Polls) -> None:
    assert [polls.see(n) for n in (100, 200, 300)] == [Flow.OPENING, Flow.OPENING, Flow.FLOWING]


def test_without_a_new_byte_it_stands_still_after_the_time_for_that(polls: Polls) -> None:
    for n in (100, 200, 300):
        polls.see(n)
    assert [polls.see(300) for _ in range(3)] == [Flow.FLOWING, Flow.FLOWING, Flow.STANDING]
    assert polls.see(301) is Flow.FLOWING


def test_it_is_absent_only_after_two_polls_without_it(polls: Polls) -> None:
    for n in (100, 200, 300):
        polls.see(n)
    assert [polls.miss(), polls.miss()] == [Flow.OPENING, Flow.ABSENT]
    assert polls.see(400) is Flow.FLOWING


def test_one_that_no_page_has_shown_yet_is_not_missed(polls: Polls) -> None:
    let_in = Publisher("nginx-rtmp", "8")
    for _ in range(5):
        polls.miss()
    assert polls.flow(let_in) is Flow.OPENING
    polls.see(100, "8")
    assert polls.watch.is_of(let_in)


@pytest.mark.parametrize(("client_id", "boot"), [("9", "boot-1"), ("7", "boot-2")])
def test_another_in_its_place_for_two_polls_means_that_it_is_gone(polls: Polls, client_id: str, boot: str) -> None:
    for n in (100, 200, 300):
        polls.see(n)
    assert polls.see(1_000, client_id, boot) is Flow.OPENING
    assert polls.see(1_100, client_id, boot) is Flow.ABSENT


def test_what_another_one_sent_before_is_no_advance_of_the_next(polls: Polls) -> None:
    for n in (100, 200, 300):
        polls.see(n, "6")
    assert [polls.see(n) for n in (400, 500)] == [Flow.OPENING, Flow.OPENING]


def test_the_bitrate_is_that_of_the_last_ten_seconds_and_more(polls: Polls) -> None:
    rates = []
    for n in range(12):
        polls.see(n * 250_000)
        rates.append(polls.watch.bitrate)
    assert rates[:5] == [0] * 5
    assert rates[5:] == [1_000_000] * 7
    for _ in range(6):
        polls.see(11 * 250_000)
    assert polls.watch.bitrate < 500_000


def test_the_bytes_are_those_of_the_publisher_in_question(polls: Polls) -> None:
    polls.see(4_711)
    assert polls.watch.bytes_of(OURS) == 4_711
    assert polls.watch.bytes_of(Publisher("nginx-rtmp", "8", "boot-1")) == 0


def test_what_is_long_gone_is_forgotten(polls: Polls) -> None:
    polls.see(100)
    for _ in range(FORGOTTEN_POLLS - 1):
        polls.miss()
    assert not polls.watch.forgotten
    polls.miss()
    assert polls.watch.forgotten
