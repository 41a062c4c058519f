"""What each page of the console shows. What is looked at is read as the API's admin routes read it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlencode
from uuid import UUID

from markupsafe import Markup
from pydantic_core import to_json
from quart import Blueprint, Response, request

from veza.actors.core import ActorView, State, SupervisorView
from veza.actors.core.views import CrashView, Percentiles
from veza.actors.lookout import POINTS, Point
from veza.domain.audit import Entry, Place
from veza.domain.audit import Wanted as WantedEntries
from veza.domain.errors import Conflict, NotFound
from veza.domain.flags import DESCRIPTIONS
from veza.domain.live import Status, StreamSession
from veza.domain.payouts import Transfer, check_may_hold, check_may_release, may_retry
from veza.domain.reports import ReportStatus
from veza.http.assets import asset_url
from veza.http.auth import caller, lately_behind
from veza.http.console.entry import PATH, form_key, operator, operators_only, page, tell
from veza.http.console.regions import Content, Drawing, Look, Row, Watching, settled
from veza.http.drawing import templates
from veza.http.events import event_response
from veza.http.parts import Parts, parts
from veza.http.routes.health import checkup
from veza.store.errors import StoreError
from veza.store.metrics import Work
from veza.store.operations import Pile, SeenStream
from veza.store.reports import Wanted as WantedReports

CHILDREN: Final = 1000  # of a dynamic supervisor, that a page shows: a thousand rows are a second's work for a browser
ROWS: Final = 50  # of a list: the first are what to look at, and the API has them all
LATEST: Final = 8  # entries of the audit on the overview: what happened just now
TREE_SECONDS: Final = 2.0  # a look at a thousand actors takes some 20 ms
LIST_SECONDS: Final = 2.0  # a query or two for each reader

console = Blueprint("console_pages", __name__)
console.errorhandler(Exception)(tell)


@dataclass(frozen=True)
class Page:
    """``looking`` is called in the request, and what it returns long after it, with no context."""

    name: str
    title: str
    looking: Callable[[Mapping[str, str]], Look]
    every: float = LIST_SECONDS
    under: str = ""
    """The page that leads to it, where it is none of the menu's."""


# -- the overview ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Tile:
    """A number worth a look. ``wrong``: it should be nought."""

    label: str
    value: str
    leads_to: str
    wrong: bool = False
    about: str = ""


@dataclass(frozen=True)
class EntryLine:
    entry: Entry
    who: str | None


@dataclass(frozen=True)
class Crashed:
    path: str
    crash: CrashView


def overview(_args: Mapping[str, str]) -> Look:
    have, checks = parts(), checkup()

    async def look() -> Content:
        found = await checks.results(LIST_SECONDS)
        crashes = sorted(_crashes(have.tree(most=CHILDREN)), key=lambda each: each.crash.at, reverse=True)
        known: dict[str, Sequence[Row]] = {}
        with suppress(StoreError):  # the checks say so
            latest = await have.audit.page(WantedEntries(), None, LATEST)
            known = {"tiles": _tiles(await have.metrics.work(), have), "entries": await _entries(latest, have)}
        return {
            "checks": [Row(name, result) for name, result in found.items()],
            "crashes": [Row(each.path, each) for each in crashes[:5]],
            **known,
        }

    return look


def _tiles(work: Work, have: Parts) -> list[Row]:
    transfers = {each.status: each for each in work.transfers}
    dead, held = transfers.get("dead"), transfers.get("held")
    due = sum(each.how_many for status, each in transfers.items() if status not in ("dead", "held"))
    maintenance, off = have.maintenance(), [each.flag for each in have.flags() if not each.enabled]
    tiles = [
        Tile("Payouts dead", str(dead.how_many if dead else 0), "payouts", bool(dead)),
        Tile("Payouts held", str(held.how_many if held else 0), "payouts"),
        Tile("Payouts due", str(due), "payouts"),
        Tile("On air", str(sum(each.how_many for each in work.sessions)), "streams"),
        Tile("Exports open", str(sum(each.how_many for each in work.exports)), "exports"),
        Tile("Reports waiting", str(work.reports), "moderation", bool(work.reports)),
        Tile("Maintenance", "on" if maintenance.enabled else "off", "switches", maintenance.enabled),
        Tile("Features off", str(len(off)), "switches", bool(off), ", ".join(off)),
    ]
    return [Row(tile.label, tile) for tile in tiles]


async def _entries(entries: Sequence[Entry], have: Parts) -> list[Row]:
    names = await have.operations.names({each.user_id for each in entries if each.user_id is not None})
    return [Row(str(each.id), EntryLine(each, _name(each.user_id, names))) for each in entries]


def _name(user_id: UUID | None, names: Mapping[UUID, str]) -> str | None:
    return None if user_id is None else names.get(user_id, str(user_id))


def _crashes(tree: SupervisorView) -> Iterator[Crashed]:
    for node in tree.walk():
        if node.last_crash is not None:
            yield Crashed(node.path, node.last_crash)


# -- actors ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ActorLine:
    """A row of the tree. What moves without anything happening is left out or rounded, or each row would be news."""

    path: str
    name: str
    level: int
    kind: str
    state: State
    incarnation: int
    restarts: int
    in_window: int
    limit: int
    crash: CrashView | None
    supervisor: bool
    hidden: int = 0
    depth: int = 0
    capacity: int = 0
    waited_s: int = 0
    """How long the oldest message has waited."""
    doing: str | None = None
    """What is in hand, if it has been for a second or more."""
    doing_s: int = 0
    rate: float = 0.0
    p99_ms: float | None = None
    points: Sequence[Point] = ()

    @property
    def rates(self) -> list[float | None]:
        return [each.rate for each in self.points]

    @property
    def p99s(self) -> list[float | None]:
        return [each.p99 for each in self.points]


def actors(_args: Mapping[str, str]) -> Look:
    have = parts()

    async def look() -> Content:
        nodes = have.tree(most=CHILDREN).walk()
        return {"actors": [Row(node.path, _line(node, have)) for node in nodes]}

    return look


def _line(node: ActorView | SupervisorView, have: Parts) -> ActorLine:
    level, restarts = node.path.count("/"), node.restarts
    facts: dict[str, Any] = {
        "path": node.path,
        "name": node.path.rpartition("/")[2],
        "level": min(level, 3),
        "kind": node.kind,
        "state": node.state,
        "incarnation": node.incarnation,
        "restarts": restarts.total,
        "in_window": restarts.in_window,
        "limit": restarts.limit,
        "crash": node.last_crash,
    }
    if isinstance(node, SupervisorView):
        return ActorLine(**facts, supervisor=True, hidden=node.hidden)
    busy = node.current if node.current is not None and node.current.running_ms >= 1000 else None
    return ActorLine(
        **facts,
        supervisor=False,
        depth=node.mailbox.depth,
        capacity=node.mailbox.capacity,
        waited_s=int(node.mailbox.oldest_age_ms / 1000),
        doing=busy.message_type if busy else None,
        doing_s=int(busy.running_ms / 1000) if busy else 0,
        rate=round(node.rate_1m, 2),
        p99_ms=_p99(node.handle_ms),
        points=have.trends.of(node.path),
    )


@dataclass(frozen=True)
class ActorFacts:
    """What can be said of one actor, or one supervisor (whose mailbox is null)."""

    line: ActorLine
    uptime_min: int
    high_water: int | None = None
    refused: int = 0
    expired: int = 0
    wait_p99_ms: float | None = None
    paused_because: str | None = None


def actor(args: Mapping[str, str]) -> Look:
    have, path = parts(), args.get("path", "")

    async def look() -> Content:
        node = next((each for each in have.tree().walk() if each.path == path), None)
        if node is None:
            raise NotFound("No actor has this path.")
        facts = _facts(node, have)
        crash = [] if node.last_crash is None else [Row("crash", node.last_crash)]
        shown = [] if isinstance(node, SupervisorView) else [Row("snapshot", _written(node.snapshot))]
        trend = [] if isinstance(node, SupervisorView) else [Row("trend", facts.line)]
        return {
            "facts": [Row("facts", facts)],
            "trend": trend,
            "acting": [Row("acting", (path, node.incarnation, node.state))],
            "crash": crash,
            "snapshot": shown,
        }

    return look


def _facts(node: ActorView | SupervisorView, have: Parts) -> ActorFacts:
    line, minutes = _line(node, have), int(node.uptime_s / 60)
    if isinstance(node, SupervisorView):
        return ActorFacts(line, minutes)
    return ActorFacts(
        line,
        minutes,
        node.mailbox.high_water,
        node.mailbox.refused,
        node.mailbox.expired,
        _p99(node.wait_ms),
        node.paused_because,
    )


def _p99(times: Percentiles | None) -> float | None:
    return None if times is None else times.p99


def _written(snapshot: object) -> str:
    return to_json(snapshot, indent=2, serialize_unknown=True).decode()[:20_000]


# -- payouts -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TransferLine:
    """A transfer, its seller, and what an admin may do with it."""

    transfer: Transfer
    seller: str
    retry: bool
    hold: bool
    release: bool


def payouts(_args: Mapping[str, str]) -> Look:
    have = parts()

    async def look() -> Content:
        piles = await have.operations.transfers(ROWS)
        return {
            pile: [Row(str(each.transfer.id), _transfer(each.transfer, each.seller)) for each in piles[pile]]
            for pile in Pile
        }

    return look


def payout(args: Mapping[str, str]) -> Look:
    have, transfer_id = parts(), _id(args.get("id", ""))

    async def look() -> Content:
        seen, attempts = await have.operations.transfer(await have.payouts.get(transfer_id), ROWS)
        line = _transfer(seen.transfer, seen.seller)
        return {
            "transfer": [Row("transfer", line)],
            "paying": [Row("paying", line)],
            "attempts": [Row(each.started_at.isoformat(), each) for each in attempts],
        }

    return look


def _id(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise NotFound("There is no such transfer.") from None


def _transfer(transfer: Transfer, seller: str) -> TransferLine:
    return TransferLine(
        transfer,
        seller,
        retry=may_retry(transfer),
        hold=_may(check_may_hold, transfer),
        release=_may(check_may_release, transfer),
    )


def _may(check: Callable[[Transfer], None], transfer: Transfer) -> bool:
    try:
        check(transfer)
    except Conflict:
        return False
    return True


# -- streams, exports, moderation, switches, audit ---------------------------------------------------------------------


@dataclass(frozen=True)
class StreamLine:
    stream: SeenStream
    session: StreamSession
    status: Status
    bitrate: int


def streams(_args: Mapping[str, str]) -> Look:
    have = parts()

    async def look() -> Content:
        live = have.refs.live
        ids = live.on_air()[:ROWS]
        seen = await have.operations.streams(ids)
        rows = []
        for stream_id in ids:
            session, status, measured = live.session(stream_id), live.status(stream_id), live.measured(stream_id)
            if session is not None and status is not None and stream_id in seen:
                bitrate = 0 if measured is None else round(measured.bitrate, -4)
                rows.append(Row(str(stream_id), StreamLine(seen[stream_id], session, status, bitrate)))
        return {"streams": rows}

    return look


def exports(_args: Mapping[str, str]) -> Look:
    have = parts()

    async def look() -> Content:
        going, over = await have.operations.exports(ROWS)
        return {
            "going": [Row(str(each.export.id), each) for each in going],
            "over": [Row(str(each.export.id), each) for each in over],
        }

    return look


def moderation(_args: Mapping[str, str]) -> Look:
    have = parts()

    async def look() -> Content:
        found, _, counts = await have.reports.page(WantedReports(ReportStatus.PENDING), limit=ROWS, offset=0)
        return {
            "counts": [Row(str(status), (status, many)) for status, many in counts.items()],
            "reports": [Row(str(each.report.id), each) for each in found],
        }

    return look


def switches(_args: Mapping[str, str]) -> Look:
    have = parts()

    async def look() -> Content:
        return {
            "maintenance": [Row("maintenance", have.maintenance())],
            "flags": [Row(each.flag, (each, DESCRIPTIONS[each.flag])) for each in have.flags()],
        }

    return look


def audit(args: Mapping[str, str]) -> Look:
    have = parts()
    asked = {name: args[name] for name in ("action", "resource") if args.get(name)}
    wanted = WantedEntries(action=asked.get("action"), resource=asked.get("resource"))
    before = Place.parse(args["before"]) if args.get("before") else None

    async def look() -> Content:
        found = await have.audit.page(wanted, before, ROWS + 1)
        shown, more = found[:ROWS], found[ROWS:]
        older = urlencode(asked | {"before": str(Place(shown[-1].at, shown[-1].id))}) if more else ""
        return {
            "entries": await _entries(shown, have),
            "older": [Row("older", f"{PATH}/audit?{older}")] if more else [],
        }

    return look


PAGES: Final[Mapping[str, Page]] = {
    each.name: each
    for each in (
        Page("overview", "Overview", overview),
        Page("actors", "Actors", actors, TREE_SECONDS),
        Page("actor", "Actor", actor, TREE_SECONDS, under="actors"),
        Page("payouts", "Payouts", payouts),
        Page("payout", "Payout", payout, under="payouts"),
        Page("streams", "Streams", streams),
        Page("exports", "Exports", exports),
        Page("moderation", "Moderation", moderation),
        Page("switches", "Switches", switches),
        Page("audit", "Audit", audit),
    )
}

MENU: Final = tuple(each for each in PAGES.values() if not each.under)


# -- served ------------------------------------------------------------------------------------------------------------


@console.get(PATH)
@operators_only
async def get_overview() -> Response:
    """What there is to look at."""
    return await _shown("overview", {})


@console.get(f"{PATH}/<name>")
@operators_only
async def get_page(name: str) -> Response:
    """A page of the menu."""
    if name not in {each.name for each in MENU}:
        raise NotFound("There is no such page.")
    return await _shown(name, request.args.to_dict())


@console.get(f"{PATH}/actors/<path:path>")
@operators_only
async def get_actor(path: str) -> Response:
    """One actor, or a supervisor."""
    return await _shown("actor", {"path": path})


@console.get(f"{PATH}/payouts/<uuid:transfer_id>")
@operators_only
async def get_payout(transfer_id: UUID) -> Response:
    """One transfer, with its tries."""
    return await _shown("payout", {"id": str(transfer_id)})


@console.get(f"{PATH}/live/<name>")
@operators_only
async def get_live(name: str) -> Response:
    """What changes on a page, for as long as it is looked at. 429 where one watches too many."""
    if name not in PAGES:
        raise NotFound("There is no such page.")
    shown, have = PAGES[name], parts()
    cookie = dict(request.cookies)

    async def still() -> None:
        await operator(cookie, have, lately_behind)

    return event_response(
        Watching(
            shown.looking(request.args.to_dict()),
            Drawing(form_key()),
            shown.every,
            place=have.watches.of(caller().id),
            ending=have.stopping,
            still=still,
        )
    )


async def _shown(name: str, args: Mapping[str, str]) -> Response:
    shown = PAGES[name]
    content = await settled(shown.looking(args))
    html = (
        templates()
        .get_template(f"console/{name}.html")
        .render(
            asset=asset_url,
            page=shown,
            menu=MENU,
            args=args,
            regions=defaultdict(Markup, {} if content is None else Drawing(form_key()).whole(content)),
            away=content is None,
            live=f"{PATH}/live/{name}" + (f"?{urlencode(args)}" if args else ""),
            form_key=form_key(),
            who=caller().user,
            points=POINTS,
        )
    )
    return page(html)
