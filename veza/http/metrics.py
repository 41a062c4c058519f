"""What is measured, as Prometheus reads it (text exposition format 0.0.4).

Requests are counted as they end, by their route's template and never by their path. Everything else is read off when
somebody asks: actors by what they publish, the pool by its counts, the platform's work by a query that is shared for a
while. A child of a dynamic supervisor has no name of its own here: thousands may come and go, and each name is kept for
good by whoever collects them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from itertools import accumulate
from typing import Final, Literal

import trio
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.gc_collector import GCCollector
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from veza.actors.audit import Outbox
from veza.actors.core import ActorView, Pulse, State, SupervisorView
from veza.actors.core.pulse import BOUNDS
from veza.actors.payments import Till
from veza.actors.queue import Progress
from veza.http.edge import Seats, Trace
from veza.store.errors import StoreError
from veza.store.metrics import Metrics, Standing, Work

WORK_SECONDS: Final = 10.0  # how old the platform's counts may be: several who collect are one query
LOOK_SECONDS: Final = 2.0  # that the query may take, before the rest is told without it
SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)  # up to a request's deadline

UNMATCHED: Final = "none"  # the route of a request that reached none


class Requests:
    """Counts every request that ended: an observer of the edge."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._ended = Counter(
            "veza_http_requests", "Requests that ended.", ["method", "route", "status"], registry=registry
        )
        self._seconds = Histogram(
            "veza_http_request_seconds",
            "How long requests took, downloads with all of their sending.",
            ["route"],
            buckets=SECONDS,
            registry=registry,
        )
        # Few, and looked up by each request.
        self._found: dict[tuple[str | None, str, int | None], tuple[Counter, Histogram]] = {}

    def observe(self, finished: Trace) -> None:
        method = finished.method if finished.route else UNMATCHED  # anybody can make up methods
        key = (finished.route, method, finished.status)
        found = self._found.get(key)
        if found is None:
            route = finished.route or UNMATCHED
            status = "cut" if finished.status is None else str(int(finished.status))
            found = self._found[key] = (self._ended.labels(method, route, status), self._seconds.labels(route))
        ended, seconds = found
        ended.inc()
        seconds.observe(finished.seconds)


@dataclass(frozen=True)
class Sources:
    """What is read off when somebody asks. ``tree``: of the supervisors; ``actors``: all there are; ``checks``: of what
    is configured, whether it is well; ``outbox``: none where nobody writes the audit; ``now``: by the clock that its
    entries go by."""

    metrics: Metrics
    tree: SupervisorView
    actors: Sequence[ActorView]
    seats: Seats
    pulse: Pulse
    checks: Mapping[str, bool]
    outbox: Outbox | None
    now: datetime


class Exposition:
    """The registry of one process, and what is read off when it is asked for."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        GCCollector(registry=self._registry)
        self.requests = Requests(self._registry)
        self._lock = trio.Lock()
        self._work: Work | None = None
        self._looked_at = float("-inf")

    async def text(self, sources: Sources) -> bytes:
        """Everything, as it stands now."""
        now = CollectorRegistry()
        now.register(_Read(_moment(sources, await self.work(sources.metrics))))
        return generate_latest(self._registry) + generate_latest(now)

    async def work(self, metrics: Metrics) -> Work | None:
        """The platform's work, at most WORK_SECONDS old, shared by all who ask; None while the database is silent."""
        async with self._lock:
            if trio.current_time() - self._looked_at >= WORK_SECONDS:
                self._work = None  # which `veza_database_up` tells of, unless it becomes known
                with trio.move_on_after(LOOK_SECONDS), suppress(StoreError):
                    self._work = await metrics.work()
                self._looked_at = trio.current_time()
            return self._work


class _Read(Collector):
    """What was read already."""

    def __init__(self, read: Iterable[Metric]) -> None:
        self._read = list(read)

    def collect(self) -> Iterable[Metric]:
        return self._read


def _moment(sources: Sources, work: Work | None) -> Iterator[Metric]:
    yield _gauge("veza_http_requests_in_hand", "Requests that are being worked on.", sources.seats.taken)
    yield from _loop(sources.pulse)
    yield from _actors(sources.tree, sources.actors)
    pool = sources.metrics.pool
    connections = GaugeMetricFamily("veza_database_connections", "Connections of the pool.", labels=["state"])
    connections.add_metric(["idle"], pool.idle)
    connections.add_metric(["in_use"], pool.in_use)
    yield connections
    yield _gauge("veza_database_connections_limit", "Connections that the pool may open.", pool.size)
    yield _gauge("veza_database_waiting", "Tasks that wait for a connection.", pool.waiting)
    yield _gauge("veza_database_up", "Whether the database said how the platform's work stands.", work is not None)
    checks = GaugeMetricFamily("veza_check_ok", "Whether what /health/deep looks at is well.", labels=["check"])
    for name, well in sources.checks.items():
        checks.add_metric([name], float(well))
    yield checks
    if sources.outbox is not None:
        yield from _audit(sources.outbox, sources.now)
    if work is not None:
        yield from _platform(work)


def _loop(pulse: Pulse) -> Iterator[Metric]:
    lag = HistogramMetricFamily("veza_event_loop_lag_seconds", "How late the event loop's beats came.")
    les = [*map(str, BOUNDS), "+Inf"]
    lag.add_metric([], list(zip(les, accumulate(pulse.counts), strict=True)), pulse.seconds)
    yield lag
    stalls = CounterMetricFamily("veza_event_loop_stalls", "Times that nobody was served.", labels=["kind"])
    stalls.add_metric(["stuck"], pulse.stuck)  # one task kept the loop
    stalls.add_metric(["crowded"], pulse.crowded)  # many tasks did together
    yield stalls
    yield _counter("veza_event_loop_stalled_seconds", "How long nobody was served, in stalls.", pulse.stalled_seconds)
    yield _gauge("veza_event_loop_watched", "Whether something looks at what the loop is stuck in.", pulse.watched)


def _audit(outbox: Outbox, now: datetime) -> Iterator[Metric]:
    yield _gauge("veza_audit_waiting", "Entries of the audit that are not written yet.", outbox.waiting)
    since = outbox.waiting_since
    lag = 0.0 if since is None else max((now - since).total_seconds(), 0.0)
    yield _gauge("veza_audit_lag_seconds", "How long the oldest of them has waited.", lag)
    yield _counter("veza_audit_dropped", "Entries of the audit that were given up.", outbox.dropped)


def _platform(work: Work) -> Iterator[Metric]:
    yield _standing("veza_transfers", "Transfers that are not over, by status.", "status", work.transfers)
    yield _standing("veza_transfers_held", "Transfers that are held, by why.", "reason", work.held)
    money = GaugeMetricFamily("veza_transfers_minor_units", "What they come to, in minor units.", labels=["status"])
    for each in work.transfers:
        money.add_metric([each.status], each.amount_cents)
    yield money
    yield _standing("veza_exports", "Exports that are not over.", "status", work.exports)
    yield _standing("veza_live_sessions", "Streams on air.", "state", work.sessions)
    yield _gauge("veza_reports_waiting", "Reports that wait for an admin.", work.reports)


def _standing(name: str, about: str, label: str, found: Sequence[Standing]) -> Metric:
    gauge = GaugeMetricFamily(name, about, labels=[label])
    for each in found:
        gauge.add_metric([each.status], each.how_many)
    return gauge


def _gauge(name: str, about: str, value: float) -> Metric:
    gauge = GaugeMetricFamily(name, about)
    gauge.add_metric([], float(value))
    return gauge


def _counter(name: str, about: str, value: float) -> Metric:
    counter = CounterMetricFamily(name, about)
    counter.add_metric([], value)
    return counter


# -- actors ------------------------------------------------------------------------------------------------------------


def _actors(tree: SupervisorView, actors: Iterable[ActorView]) -> Iterator[Metric]:
    alone = list[ActorView]()
    crowds: dict[str, list[ActorView]] = {node.path: [] for node in tree.walk() if node.kind == "dynamic"}
    for actor in actors:
        crowds.get(actor.path.rpartition("/")[0], alone).append(actor)
    together = [([each.path], [each]) for each in alone] + [([f"{path}/*"], some) for path, some in crowds.items()]
    yield _of_actors(
        "veza_actors_running",
        "Actors that run: neither paused, drained, backing off nor given up.",
        [(labels, sum(each.state is State.RUNNING for each in some)) for labels, some in together],
    )
    yield _of_actors("veza_actors", "Actors.", [(labels, len(some)) for labels, some in together])
    yield _of_actors(
        "veza_actor_mailbox_messages",
        "Messages that wait.",
        [(labels, sum(each.mailbox.depth for each in some)) for labels, some in together],
    )
    yield _of_actors(
        "veza_actor_oldest_message_seconds",
        "How long the oldest message has waited.",
        [(labels, max((each.mailbox.oldest_age_ms / 1000 for each in some), default=0.0)) for labels, some in together],
    )
    yield _of_actors(
        "veza_actor_message_in_hand_seconds",
        "How long the message in hand has been.",
        [
            (labels, max((each.current.running_ms / 1000 for each in some if each.current), default=0.0))
            for labels, some in together
        ],
    )
    yield _quantiles("veza_actor_handle_seconds", "Handling a message, over the last minutes.", alone, "handle_ms")
    yield _quantiles("veza_actor_wait_seconds", "A message's wait, over the last minutes.", alone, "wait_ms")
    for name, about, read in COUNTED:
        counter = CounterMetricFamily(name, about, labels=["actor"])
        for each in alone:
            counter.add_metric([each.path], read(each))
        yield counter
    yield from _queues({each.path: each.snapshot for each in alone if isinstance(each.snapshot, Progress)})
    yield from _payments(each.snapshot for each in alone if isinstance(each.snapshot, Till))


def _payments(found: Iterable[Till]) -> Iterator[Metric]:
    for till in found:
        if till.provider != "not_asked":
            yield _gauge(
                "veza_payment_provider_answers",
                "Whether the payment provider answered when it was last asked, and takes our key.",
                till.provider == "answers",
            )


def _queues(found: Mapping[str, Progress]) -> Iterator[Metric]:
    attempts = CounterMetricFamily(
        "veza_queue_attempts",
        "What came of asking a provider, since the actor's last start.",
        labels=["actor", "outcome"],
    )
    stopped = GaugeMetricFamily("veza_queue_stopped", "Whether the provider refuses our key.", labels=["actor"])
    in_hand = GaugeMetricFamily("veza_queue_in_hand", "Rows that are being worked on.", labels=["actor"])
    for path, progress in found.items():
        for outcome in OUTCOMES:
            attempts.add_metric([path, outcome], getattr(progress, outcome))
        stopped.add_metric([path], float(progress.stopped_because is not None))
        in_hand.add_metric([path], progress.in_hand)
    yield from (attempts, stopped, in_hand)


OUTCOMES: Final = ("done", "retried", "given_back", "held", "given_up")


COUNTED: Final[Sequence[tuple[str, str, Callable[[ActorView], int]]]] = (
    ("veza_actor_restarts", "Restarts.", lambda actor: actor.restarts.total),
    ("veza_actor_refused", "Messages that a full mailbox refused.", lambda actor: actor.mailbox.refused),
    ("veza_actor_expired", "Messages whose deadline passed while they waited.", lambda actor: actor.mailbox.expired),
)
"""Of those who have a name alone: what is summed over who comes and goes would go down."""


def _of_actors(name: str, about: str, values: Iterable[tuple[list[str], float]]) -> Metric:
    gauge = GaugeMetricFamily(name, about, labels=["actor"])
    for labels, value in values:
        gauge.add_metric(labels, value)
    return gauge


def _quantiles(name: str, about: str, actors: Iterable[ActorView], of: Literal["handle_ms", "wait_ms"]) -> Metric:
    gauge = GaugeMetricFamily(name, about, labels=["actor", "quantile"])
    for actor in actors:
        found = actor.handle_ms if of == "handle_ms" else actor.wait_ms
        if found is not None:
            gauge.add_metric([actor.path, "0.5"], found.p50 / 1000)
            gauge.add_metric([actor.path, "0.99"], found.p99 / 1000)
    return gauge
