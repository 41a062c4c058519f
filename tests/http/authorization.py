"""Who gets what of each route: the table, and how it is read. `test_authorization` holds the running app against it.

A row is a route under ``/api/v1``, or a page at the root; the legacy routes at the root answer as their twins do.

- **nobody** shows no token; **another** is signed in and has nothing to do with what it is about; the **owner** is who
  has it, or who knows a provider's or an ingest server's secret; an **admin** owns nothing either.
- **stale** tokens have expired, are refresh tokens, or are of a session that was ended, or of who was banned or erased:
  `refused` with 401 and the code that says which (STALE), or `ignored`, so that their bearer is nobody.
- The **console** heeds no token but its own cookie's: to all of them it is a door (`console/test_doors` walks it by
  cookies).
- During **maintenance** what is `closed` answers 503 `maintenance` to all but admins; what is `open` stays as it is;
  a `page` is closed too, and tells its errors in HTML; `signing` in is for an admin's credentials alone.

A cell is a status, with the code of CODES if it is an error, or one of WORDS. 404 is for what one may not know of, 403
for what is plainly there and another's. What an owner has is in `world`, how a route is called in `calls`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from tests.http.calls import Who
from tests.http.world import Stale

HEAD: Final = """\
                                                                  nobody  another owner   admin   stale   maintenance
"""

ROUTES: Final = """\
GET /admin/actors                                                 401     403     403     200     refused open
GET /admin/actors/:path                                           401     403     403     200     refused open
POST /admin/actors/:path/drain                                    401     403     403     200     refused open
POST /admin/actors/:path/pause                                    401     403     403     200     refused open
POST /admin/actors/:path/restart                                  401     403     403     200     refused open
POST /admin/actors/:path/resume                                   401     403     403     200     refused open
GET /admin/actors/tree                                            401     403     403     200     refused open
DELETE /admin/announcements/:announcement_id                      401     403     403     200     refused open
GET /admin/announcements                                          401     403     403     200     refused open
POST /admin/announcements                                         401     403     403     201     refused open
GET /admin/audit                                                  401     403     403     200     refused open
GET /admin/debts                                                  401     403     403     200     refused open
GET /admin/disputes                                               401     403     403     200     refused open
GET /admin/feature-flags                                          401     403     403     200     refused open
PUT /admin/feature-flags/:name                                    401     403     403     200     refused open
GET /admin/ledger/verify                                          401     403     403     200     refused open
GET /admin/maintenance                                            401     403     403     200     refused open
PUT /admin/maintenance                                            401     403     403     200     refused open
GET /admin/reconciliations                                        401     403     403     200     refused open
POST /admin/reconciliations                                       401     403     403     201     refused open
GET /admin/refunds                                                401     403     403     200     refused open
GET /admin/reports                                                401     403     403     200     refused open
POST /admin/reports/:report_id/resolve                            401     403     403     200     refused open
GET /admin/transfers                                              401     403     403     200     refused open
POST /admin/transfers/:transfer_id/hold                           401     403     403     200     refused open
POST /admin/transfers/:transfer_id/release                        401     403     403     200     refused open
POST /admin/transfers/:transfer_id/retry                          401     403     403     200     refused open
GET /admin/users                                                  401     403     403     200     refused open
POST /admin/users/:user_id/ban                                    401     403     403     200     refused open
PUT /admin/users/:user_id/role                                    401     403     403     200     refused open
POST /admin/users/:user_id/unban                                  401     403     403     200     refused open

GET /announcements/active                                         200     200     200     200     ignored closed

POST /auth/login                                                  200     200     200     200     ignored signing
POST /auth/logout                                                 200     200     200     200     ignored closed
POST /auth/refresh                                                200     200     200     200     ignored signing
POST /auth/register                                               201     201     201     201     ignored closed
DELETE /auth/sessions                                             401     200     200     200     refused closed
GET /auth/sessions                                                401     200     200     200     refused closed
DELETE /auth/sessions/:session_id                                 401     404     200     404     refused closed
GET /auth/sessions/:session_id                                    401     404     200     404     refused closed

GET /cloud/files                                                  401     200     200     200     refused closed
POST /cloud/files                                                 401     201     201     201     refused closed
DELETE /cloud/files/:file_id                                      401     404     200     404     refused closed
GET /cloud/files/:file_id                                         401     404     200     404     refused closed
PATCH /cloud/files/:file_id                                       401     404     200     404     refused closed
GET /cloud/files/:file_id/content                                 401     404     200     404     refused closed
PUT /cloud/files/:file_id/content                                 401     404     200     404     refused closed
POST /cloud/files/:file_id/link                                   401     404     200     404     refused closed
POST /cloud/files/:file_id/restore/:version                       401     404     200     404     refused closed
GET /cloud/files/:file_id/share                                   401     404     200     404     refused closed
POST /cloud/files/:file_id/share                                  401     404     200     404     refused closed
DELETE /cloud/files/:file_id/share/:share_id                      401     404     200     404     refused closed
GET /cloud/files/:file_id/versions                                401     404     200     404     refused closed
POST /cloud/files/:file_id/versions                               401     404     201     404     refused closed
DELETE /cloud/files/:file_id/versions/:version                    401     404     200     404     refused closed
GET /cloud/shared/:token                                          200     200     200     200     ignored closed
GET /cloud/shared/:token/content                                  200     200     200     200     ignored closed
GET /cloud/usage                                                  401     200     200     200     refused closed

GET /health                                                       200     200     200     200     ignored open
GET /health/deep                                                  200     200     200     200     ignored open

GET /healthz                                                      200     200     200     200     ignored open

POST /hooks/mediamtx/:token/auth                                  404     404     200     404     ignored open
POST /hooks/rtmp/:token/publish                                   404     404     302     404     ignored open
POST /hooks/rtmp/:token/publish_done                              404     404     200     404     ignored open

GET /inventory/gear                                               401     200     200     200     refused closed
POST /inventory/gear                                              401     201     201     201     refused closed
DELETE /inventory/gear/:gear_id                                   401     404     200     404     refused closed
GET /inventory/gear/:gear_id                                      401     404     200     404     refused closed
PUT /inventory/gear/:gear_id                                      401     404     200     404     refused closed
GET /inventory/gear/:gear_id/documents                            401     404     200     404     refused closed
POST /inventory/gear/:gear_id/documents                           401     404     201     404     refused closed
DELETE /inventory/gear/:gear_id/documents/:document_id            401     404     200     404     refused closed
GET /inventory/gear/:gear_id/documents/:document_id/content       401     404     200     404     refused closed
GET /inventory/gear/:gear_id/repairs                              401     404     200     404     refused closed
POST /inventory/gear/:gear_id/repairs                             401     404     201     404     refused closed
DELETE /inventory/gear/:gear_id/repairs/:repair_id                401     404     200     404     refused closed

GET /live/streams                                                 200     200     200     200     ignored closed
POST /live/streams                                                401     201     201     201     refused closed
DELETE /live/streams/:stream_id                                   401     403     200     403     refused closed
GET /live/streams/:stream_id                                      200     200     200     200     refused closed
PUT /live/streams/:stream_id                                      401     403     200     403     refused closed
POST /live/streams/:stream_id/end                                 401     403     200     403     refused closed
GET /live/streams/:stream_id/sessions                             401     403     200     403     refused closed
GET /live/streams/:stream_id/status                               200     200     200     200     ignored closed
GET /live/streams/me                                              401     200     200     200     refused closed
GET /live/streams/me/key                                          401     200     200     200     refused closed
POST /live/streams/me/key/regenerate                              401     200     200     200     refused closed

GET /metrics                                                      200     200     200     200     ignored open

GET /marketplace/library                                          401     200     200     200     refused closed

GET /marketplace/orders                                           401     200     200     200     refused closed
POST /marketplace/orders                                          401     201     201     201     refused closed
GET /marketplace/orders/:order_id                                 401     404     200     200     refused closed
POST /marketplace/orders/:order_id/cancel                         401     404     200     404     refused closed
GET /marketplace/orders/:order_id/downloads                       401     404     200     404     refused closed
GET /marketplace/orders/:order_id/downloads/:file_id              401     404     200     404     refused closed
POST /marketplace/orders/:order_id/downloads/:file_id/link        401     404     200     404     refused closed
GET /marketplace/orders/:order_id/invoice                         401     404     200     200     refused closed
POST /marketplace/orders/:order_id/refund                         401     404     200     200     refused closed
GET /marketplace/orders/:order_id/refunds                         401     404     200     200     refused closed
GET /marketplace/orders/:order_id/refunds/:refund_id/credit-note  401     404     200     200     refused closed

GET /marketplace/products                                         200     200     200     200     refused closed
POST /marketplace/products                                        401     201     201     201     refused closed
DELETE /marketplace/products/:product_id                          401     403     200     403     refused closed
GET /marketplace/products/:product_id                             200     200     200     200     refused closed
PUT /marketplace/products/:product_id                             401     403     200     403     refused closed
DELETE /marketplace/products/:product_id/cover                    401     403     200     403     refused closed
GET /marketplace/products/:product_id/cover                       200     200     200     200     refused closed
POST /marketplace/products/:product_id/cover                      401     403     201     403     refused closed
GET /marketplace/products/:product_id/files                       401     403     200     403     refused closed
POST /marketplace/products/:product_id/files                      401     403     201     403     refused closed
DELETE /marketplace/products/:product_id/files/:file_id           401     404     200     403     refused closed
DELETE /marketplace/products/:product_id/preview                  401     403     200     403     refused closed
GET /marketplace/products/:product_id/preview                     200     200     200     200     refused closed
POST /marketplace/products/:product_id/preview                    401     403     201     403     refused closed
GET /marketplace/products/:product_id/reviews                     200     200     200     200     refused closed
POST /marketplace/products/:product_id/reviews                    401     unowned 201     unowned refused closed
DELETE /marketplace/products/:product_id/reviews/:review_id       401     403     200     200     refused closed
PUT /marketplace/products/:product_id/reviews/:review_id          401     403     200     403     refused closed
PUT /marketplace/products/:product_id/reviews/:review_id/response 401     403     200     403     refused closed

GET /notifications                                                401     200     200     200     refused closed
PUT /notifications/:notification_id/read                          401     404     200     404     refused closed
PUT /notifications/read-all                                       401     200     200     200     refused closed
GET /notifications/stream                                         401     200     200     200     refused closed
POST /notifications/stream-ticket                                 401     201     201     201     refused closed
GET /notifications/unread-count                                   401     200     200     200     refused closed

GET /objects/:token                                               200     200     200     200     ignored closed

GET /readyz                                                       200     200     200     200     ignored open

POST /reports                                                     401     201     201     201     refused closed

GET /sell/balance                                                 401     200     200     200     refused closed
POST /sell/connect/onboard                                        401     200     200     200     refused closed
GET /sell/connect/refresh                                         303     303     303     303     ignored closed
GET /sell/connect/return                                          200     200     200     200     ignored closed
GET /sell/connect/status                                          401     200     200     200     refused closed
GET /sell/orders                                                  401     200     200     200     refused closed
GET /sell/refunds                                                 401     200     200     200     refused closed
POST /sell/refunds/:refund_id/approve                             401     404     200     200     refused closed
POST /sell/refunds/:refund_id/decline                             401     404     200     200     refused closed
GET /sell/stats                                                   401     200     200     200     refused closed
GET /sell/transfers                                               401     200     200     200     refused closed
GET /sell/transfers.csv                                           401     200     200     200     refused closed

GET /tags/suggest                                                 401     200     200     200     refused closed

GET /users/:user_id                                               200     200     200     200     ignored closed
DELETE /users/me                                                  401     200     200     200     refused closed
GET /users/me                                                     401     200     200     200     refused closed
PUT /users/me                                                     401     200     200     200     refused closed
POST /users/me/export                                             401     202     202     202     refused closed
GET /users/me/exports                                             401     200     200     200     refused closed
GET /users/me/exports/:export_id                                  401     404     200     404     refused closed
PUT /users/me/password                                            401     200     200     200     refused closed
GET /users/me/privacy                                             401     200     200     200     refused closed
POST /users/me/privacy/opt-out                                    401     200     200     200     refused closed

POST /webhooks/hyperswitch                                        forged  forged  200     forged  ignored open
POST /webhooks/stripe                                             forged  forged  200     forged  ignored open

GET /console                                                      303     303     303     303     ignored open
GET /console/:name                                                303     303     303     303     ignored open
GET /console/actors/:path                                         303     303     303     303     ignored open
GET /console/live/:name                                           303     303     303     303     ignored open
GET /console/login                                                200     200     200     200     ignored open
POST /console/login                                               303     303     303     303     ignored open
POST /console/actors/:path                                        door    door    door    door    ignored open
POST /console/logout                                              door    door    door    door    ignored open
POST /console/moderation/:report_id                               door    door    door    door    ignored open
GET /console/payouts/:transfer_id                                 303     303     303     303     ignored open
POST /console/payouts/:transfer_id/hold                           door    door    door    door    ignored open
POST /console/payouts/:transfer_id/release                        door    door    door    door    ignored open
POST /console/payouts/:transfer_id/retry                          door    door    door    door    ignored open
POST /console/switches/flags/:name                                door    door    door    door    ignored open
POST /console/switches/maintenance                                door    door    door    door    ignored open
GET /console/users/:user_id                                       303     303     303     303     ignored open
POST /console/users/:user_id/ban                                  door    door    door    door    ignored open
POST /console/users/:user_id/unban                                door    door    door    door    ignored open

GET /.well-known/gpc.json                                         200     200     200     200     ignored closed

GET /openapi.json                                                 200     200     200     200     ignored closed

GET /static/:name                                                 200     200     200     200     ignored open

GET /swagger                                                      200     200     200     200     ignored page

GET /watch/:stream_id                                             200     200     200     200     ignored page
"""

DRAFTS: Final = """\
GET /marketplace/products/:product_id                             404     404     200     200     refused closed
PUT /marketplace/products/:product_id                             401     404     200     403     refused closed
GET /marketplace/products/:product_id/cover                       404     404     200     200     refused closed
GET /marketplace/products/:product_id/preview                     404     404     200     200     refused closed
POST /marketplace/products/:product_id/cover                      401     404     201     403     refused closed
POST /marketplace/products/:product_id/preview                    401     404     201     403     refused closed
DELETE /marketplace/products/:product_id/cover                    401     404     200     403     refused closed
DELETE /marketplace/products/:product_id/preview                  401     404     200     403     refused closed
GET /marketplace/products/:product_id/files                       401     404     200     403     refused closed
POST /marketplace/products/:product_id/files                      401     404     201     403     refused closed
GET /marketplace/products/:product_id/reviews                     404     404     200     200     refused closed
POST /marketplace/products/:product_id/reviews                    401     404     unowned unowned refused closed
DELETE /marketplace/products/:product_id                          401     404     200     403     refused closed

GET /live/streams/:stream_id                                      404     404     200     404     refused closed
GET /live/streams/:stream_id/status                               200     200     200     200     ignored closed
GET /live/streams/:stream_id/sessions                             401     404     200     404     refused closed
POST /live/streams/:stream_id/end                                 401     404     200     404     refused closed
GET /watch/:stream_id                                             404     404     404     404     ignored page
PUT /live/streams/:stream_id                                      401     404     200     404     refused closed
DELETE /live/streams/:stream_id                                   401     404     200     404     refused closed
"""
"""The same routes, about a product or a stream that its owner has not published: the others may not know of it."""

SALES: Final = """\
GET /marketplace/orders/:order_id                                 401     404     404     200     refused closed
POST /marketplace/orders/:order_id/cancel                         401     404     404     404     refused closed
GET /marketplace/orders/:order_id/downloads                       401     404     404     404     refused closed
GET /marketplace/orders/:order_id/downloads/:file_id              401     404     404     404     refused closed
POST /marketplace/orders/:order_id/downloads/:file_id/link        401     404     404     404     refused closed
GET /marketplace/orders/:order_id/invoice                         401     404     403     200     refused closed
POST /marketplace/orders/:order_id/refund                         401     404     200     200     refused closed
GET /marketplace/orders/:order_id/refunds                         401     404     200     200     refused closed
GET /marketplace/orders/:order_id/refunds/:refund_id/credit-note  401     404     403     200     refused closed
"""
"""The same routes again, about somebody's order of what the owner sold."""

TABLE: Final[Mapping[str, str]] = {"": ROUTES, "a draft": DRAFTS, "its seller": SALES}
"""By what stands in brackets behind the route where one reads of it."""

CODES: Final = {"401": "unauthenticated", "403": "forbidden", "404": "not_found", "503": "maintenance"}
WORDS: Final = {"door": "401 page", "forged": "401 bad_signature", "unowned": "403 not_bought"}

STALE: Final[Mapping[Stale, str]] = {
    Stale.EXPIRED: "401 token_expired",
    Stale.REFRESH: "401 invalid_token",
    Stale.ENDED: "401 session_over",
    Stale.BANNED: "401 session_over",
    Stale.ERASED: "401 session_over",
}

CLOSED: Final = "503 maintenance"
ON_A_PAGE: Final = "503 page"


@dataclass(frozen=True)
class Row:
    """``route`` is a method and a path, and what stands in brackets behind them."""

    route: str
    cells: Mapping[Who, str]
    stale: str
    maintenance: str

    @property
    def bare(self) -> str:
        return self.route.partition(" (")[0]

    def shown(self, token: Stale) -> str:
        """What the bearer of a token that does not hold gets."""
        return STALE[token] if self.stale == "refused" else self.cells[Who.NOBODY]

    def closed(self, who: Who) -> str:
        """What one gets during maintenance."""
        if self.maintenance == "open" or who is Who.ADMIN:
            return self.cells[who]
        return ON_A_PAGE if self.maintenance == "page" else CLOSED


def rows() -> Iterator[Row]:
    for variant, table in TABLE.items():
        for line in filter(None, table.splitlines()):
            method, path, *cells, stale, maintenance = line.split()
            route = f"{method} {path}" + (f" ({variant})" if variant else "")
            outcomes = [_read(cell, on_a_page=maintenance == "page") for cell in cells]
            yield Row(route, dict(zip(Who, outcomes, strict=True)), stale, maintenance)


def _read(cell: str, *, on_a_page: bool) -> str:
    if cell not in CODES:
        return WORDS.get(cell, cell)
    return f"{cell} {'page' if on_a_page else CODES[cell]}"
