"""Global Privacy Control (W3C Working Draft): what a request says by ``Sec-GPC``, kept for whoever is signed in.

The edge reads the signal (`trace().do_not_sell`) and answers it, whatever answers the request.
"""

from __future__ import annotations

from typing import Final

import structlog
import trio

from veza.domain.accounts import User
from veza.domain.privacy import is_news
from veza.http.edge import trace
from veza.http.parts import Parts
from veza.store.errors import StoreError

log = structlog.get_logger()

WAIT_SECONDS: Final = 0.1
"""For a connection to write with. A request that got one to look up its session has one again at once, or the house is
full; then the signal is kept at another time, since it comes with every request."""


async def heed(user: User, parts: Parts) -> None:
    """Keep the signal of the request in hand, if it is news. It never fails the request.

    It is written before the request is answered, so that it is there for whoever asks next.
    """
    if not is_news(user.do_not_sell, signal=trace().do_not_sell):
        return
    with trio.move_on_after(WAIT_SECONDS):
        try:
            await parts.privacy.heed(user.id, parts.clock())
        except StoreError as error:
            log.warning("gpc_signal_not_kept", user=str(user.id), error=type(error).__name__)
