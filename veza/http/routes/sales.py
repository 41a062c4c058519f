"""Sales as their sellers see them: their part of each order, what a period adds up to, and all transfers as a table."""

from __future__ import annotations

import csv
from collections.abc import AsyncIterator, Iterable
from datetime import date, datetime
from io import StringIO
from uuid import UUID

from pydantic import Field
from quart import Blueprint, Response
from quart_schema import document_response, validate_querystring, validate_response

from veza.domain.payments import OrderStatus
from veza.domain.sales import Stats, period
from veza.http.auth import caller, login_required
from veza.http.document import Csv
from veza.http.envelope import Envelope, Out, Query
from veza.http.fields import Moment
from veza.http.paging import Paging
from veza.http.parts import parts
from veza.http.routes.sell import TransferRowOut
from veza.store.payouts import Payouts, Wanted

TABLE_PAGE = 500  # rows read at a time, so that a table of any length takes no more memory than that

api = Blueprint("sales", __name__)


class SoldItemOut(Out):
    id: UUID
    product_id: UUID
    title: str
    quantity: int
    unit_price_cents: int
    total_cents: int
    refunded_cents: int


class SaleOut(Out):
    """The caller's own lines of an order. Amounts are minor units of ``currency``; ``net`` is what is left to them.

    ``refunded_cents`` went back to the buyer, ``fee_refunded_cents`` of them out of the fee. A line's are gone from it,
    or about to be.
    """

    order_id: UUID
    status: OrderStatus
    buyer: str
    currency: str
    gross_cents: int
    fee_cents: int
    refunded_cents: int
    fee_refunded_cents: int
    net_cents: int
    items: list[SoldItemOut]
    paid_at: datetime


class SalesOut(Out):
    orders: list[SaleOut]
    total: int


class SumsOut(Out):
    orders: int
    gross_cents: int
    fee_cents: int
    refunded_cents: int
    fee_refunded_cents: int
    net_cents: int


class DayOut(SumsOut):
    day: date


class ProductSumsOut(Out):
    """Before the fee, which is reckoned for an order as a whole."""

    product_id: UUID
    title: str
    quantity: int
    gross_cents: int
    refunded_cents: int


class StatsOut(SumsOut):
    """Amounts are minor units of ``currency``. Days are in UTC, and those without sales and refunds are left out.

    What was refunded counts when it went back: the sums of a period that is over never change.
    """

    since: datetime
    until: datetime
    currency: str
    by_day: list[DayOut]
    by_product: list[ProductSumsOut]


class StatsQuery(Query):
    """``from`` is included, ``to`` is not: RFC 3339, or a date (UTC). Thirty days to now if neither is given."""

    since: Moment | None = Field(None, alias="from")
    until: Moment | None = Field(None, alias="to")


@api.get("/sell/orders")
@login_required
@validate_querystring(Paging)
@validate_response(Envelope[SalesOut])
async def get_orders(query_args: Paging) -> Envelope[SalesOut]:
    """The paid orders of the caller's products, the latest first. Their own lines, and what is theirs of it."""
    sales, total = await parts().sales.page(caller().id, limit=query_args.limit, offset=query_args.offset)
    return Envelope[SalesOut](data=SalesOut(orders=list(map(SaleOut.of, sales)), total=total))


@api.get("/sell/stats")
@login_required
@validate_querystring(StatsQuery)
@validate_response(Envelope[StatsOut])
async def get_stats(query_args: StatsQuery) -> Envelope[StatsOut]:
    """What the caller's sales of a period add up to. 400 for an empty period, or one longer than a year."""
    since, until = period(query_args.since, query_args.until, parts().clock())
    stats = await parts().sales.stats(caller().id, since, until)
    return Envelope[StatsOut](data=_stats(stats, since, until))


@api.get("/sell/transfers.csv")
@login_required
@document_response(Csv)
async def get_table() -> Response:
    """All of the caller's transfers so far, as CSV. The newest first, with the fields of `/sell/transfers`."""
    headers = {"Content-Disposition": 'attachment; filename="transfers.csv"'}
    rows = _table(parts().payouts, Wanted(seller_id=caller().id, until=parts().clock()))
    return Response(rows, headers=headers, content_type="text/csv; charset=utf-8; header=present")


async def _table(payouts: Payouts, wanted: Wanted) -> AsyncIterator[str]:
    """Read page by page: bounded by a moment, what is wanted neither grows nor shifts meanwhile."""
    yield _line(TransferRowOut.model_fields)
    offset = 0
    while page := (await payouts.list(wanted, TABLE_PAGE, offset))[0]:
        yield "".join(_line(TransferRowOut.of(transfer).model_dump(mode="json").values()) for transfer in page)
        offset += len(page)


def _line(cells: Iterable[object]) -> str:
    line = StringIO()
    csv.writer(line).writerow(["" if cell is None else cell for cell in cells])
    return line.getvalue()


def _stats(stats: Stats, since: datetime, until: datetime) -> StatsOut:
    return StatsOut.of(
        stats.total,
        since=since,
        until=until,
        currency=parts().settings.currency,
        by_day=[DayOut.of(each.sums, day=each.day) for each in stats.by_day],
        by_product=[ProductSumsOut.of(each) for each in stats.by_product],
    )
