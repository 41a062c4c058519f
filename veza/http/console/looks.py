"""What the console's other pages show, read as the API's admin routes read it.

Each is called in the request, and what it returns long after it, with no context.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Final
from urllib.parse import urlencode
from uuid import UUID

import trio
from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError, ValidationInfo, field_validator
from quart_schema.validation import RequestSchemaValidationError

from veza.actors.core import SupervisorView
from veza.actors.core.views import CrashView
from veza.domain.accounts import EMAIL_LENGTH, Role
from veza.domain.audit import Entry, Place
from veza.domain.audit import Wanted as WantedEntries
from veza.domain.bans import Standing
from veza.domain.errors import Conflict, Invalid, NotFound
from veza.domain.flags import DESCRIPTIONS
from veza.domain.live import Status, StreamSession
from veza.domain.payouts import Transfer, check_may_hold, check_may_release, may_retry
from veza.domain.reports import ReportStatus
from veza.http import errors
from veza.http.auth import caller
from veza.http.console.cookies import PATH
from veza.http.console.entry import PickedMoment
from veza.http.console.regions import Content, Look, Row
from veza.http.envelope import Problem
from veza.http.parts import Parts, parts
from veza.http.routes.actors import CHILDREN
from veza.http.routes.health import checkup
from veza.store.accounts import Wanted as WantedAccounts
from veza.store.errors import StoreError
from veza.store.metrics import Work
from veza.store.operations import Pile, SeenStream
from veza.store.reports import Wanted as WantedReports

ROWS: Final = 50  # of a list: the first are what to look at, and the API has them all
LATEST: Final = 8  # entries of the audit on the overview: what happened just now
LATEST_SECONDS: Final = 0.5  # that they may take: how the process is must be seen without them
STATUS: Final = re.compile(r"[1-5][0-9]{2}", re.ASCII)
OFFSET: Final = re.compile(r"[0-9]{1,9}", re.ASCII)
LATEST_OF_USER: Final = 20  # entries of the audit: who was banned and let in again has a few
USERS_SECONDS: Final = 10.0  # a part of a name is looked for in all of them
LIST_SECONDS: Final = 2.0  # a query or two for each reader


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
        work = await have.exposition.work(have.metrics)
        known: dict[str, Sequence[Row]] = {}
        with suppress(StoreError), trio.move_on_after(LATEST_SECONDS):  # the checks say so
            known = {"entries": await _entries(await have.audit.page(WantedEntries(), None, LATEST), have)}
        if work is not None:
            known["tiles"] = _tiles(work, have)
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
        Tile("Reports pending", str(work.reports), "moderation", bool(work.reports)),
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
    have, transfer_id = parts(), _id(args.get("id", ""), "transfer")

    async def look() -> Content:
        seen, attempts = await have.operations.transfer(await have.payouts.get(transfer_id), ROWS)
        line = _transfer(seen.transfer, seen.seller)
        return {
            "transfer": [Row("transfer", line)],
            "paying": [Row("paying", line)],
            "attempts": [Row(each.started_at.isoformat(), each) for each in attempts],
        }

    return look


def _id(text: str, of: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise NotFound(f"There is no such {of}.") from None


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


# -- users -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class AccountLine:
    """An account, and whether it is its reader's own."""

    standing: Standing
    own: bool


class Which(StrEnum):
    """Whose accounts are listed."""

    ALL = ""
    BANNED = "banned"
    ADMINS = "admins"


def users(args: Mapping[str, str]) -> Look:
    """As the API's list: ``search`` is a part of the username or the email, or the whole id."""
    have, me = parts(), caller().id
    which = Which(args["which"]) if args.get("which") in set(Which) else Which.ALL
    search = args.get("search", "").strip()[:EMAIL_LENGTH] or None
    wanted = WantedAccounts(
        search, Role.ADMIN if which is Which.ADMINS else None, True if which is Which.BANNED else None
    )
    asked = {name: args[name] for name in ("search", "which") if args.get(name)}
    offset = int(args["offset"]) if OFFSET.fullmatch(args.get("offset", "")) else 0

    async def look() -> Content:
        found, total = await have.accounts.page(wanted, limit=ROWS, offset=offset)
        more = urlencode(asked | {"offset": offset + ROWS}) if offset + ROWS < total else ""
        return {
            "users": [Row(str(each.user.id), AccountLine(each, each.user.id == me)) for each in found],
            "older": [Row("older", f"{PATH}/users?{more}")] if more else [],
        }

    return look


def user(args: Mapping[str, str]) -> Look:
    have, user_id, me = parts(), _id(args.get("id", ""), "user"), caller().id

    async def look() -> Content:
        line = AccountLine(await have.accounts.standing(user_id), user_id == me)
        about = await have.audit.page(WantedEntries(resource=f"users/{user_id}"), None, LATEST_OF_USER)
        return {
            "account": [Row("account", line)],
            "banning": [Row("banning", line)],
            "entries": await _entries(about, have),
        }

    return look


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


def _status(value: object) -> int:
    if isinstance(value, str) and STATUS.fullmatch(value):
        return int(value)
    raise ValueError("A request's status is a number such as 403.")


class AuditFilters(BaseModel):
    """What of the audit is asked for: as the API has it, but that who it was may be told by any of their names."""

    model_config = ConfigDict(frozen=True, str_strip_whitespace=True)

    who: str | None = None
    action: str | None = None
    resource: str | None = None
    status: Annotated[int | None, BeforeValidator(_status)] = None
    since: PickedMoment | None = None
    until: PickedMoment | None = None

    @field_validator("until")
    @classmethod
    def _after_since(cls, until: datetime | None, told: ValidationInfo) -> datetime | None:
        since = told.data.get("since")
        if until is not None and since is not None and until < since:
            raise ValueError("It ends before it begins.")
        return until

    async def wanted(self, have: Parts) -> WantedEntries:
        """Raises Invalid for somebody who is not there."""
        user_id = None if self.who is None else await _whom(self.who, have)
        return WantedEntries(
            user_id, self.action, self.resource, status=self.status, since=self.since, until=self.until
        )


def audit(args: Mapping[str, str]) -> Look:
    """A filter that makes no sense is said to make none, beside an empty list: the page stands, to be mended."""
    have = parts()
    asked = {name: args[name] for name in AuditFilters.model_fields if args.get(name, "").strip()}
    before = Place.parse(args["before"]) if args.get("before") else None
    filters, wrong = _read(asked)

    async def look() -> Content:
        if filters is None:
            return _faults(wrong)
        try:
            wanted = await filters.wanted(have)
        except Invalid as refused:
            return _faults(errors.describe(refused).details)
        found = await have.audit.page(wanted, before, ROWS + 1)
        shown, more = found[:ROWS], found[ROWS:]
        older = urlencode(asked | {"before": str(Place(shown[-1].at, shown[-1].id))}) if more else ""
        return {
            "faults": [],
            "entries": await _entries(shown, have),
            "older": [Row("older", f"{PATH}/audit?{older}")] if more else [],
        }

    return look


def _read(asked: Mapping[str, str]) -> tuple[AuditFilters | None, Sequence[Problem]]:
    try:
        return AuditFilters.model_validate(asked), ()
    except ValidationError as wrong:
        return None, errors.describe(RequestSchemaValidationError(wrong)).details


def _faults(wrong: Sequence[Problem]) -> Content:
    return {"faults": [Row(each.field, each) for each in wrong], "entries": [], "older": []}


async def _whom(name: str, have: Parts) -> UUID:
    """By their id, also of who was erased, their username or their email. Raises Invalid."""
    with suppress(ValueError):
        return UUID(name)
    found = await have.operations.called(name)
    if found is None:
        raise Invalid("There is no account of this name, email or id.", field="who")
    return found
