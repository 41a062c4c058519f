"""The Stripe package's way to the network: httpx on whichever loop runs, trio in ours.

The package has one of its own. It passes its form under the name that httpx deprecates, and gives up on no request as a
whole; ours does neither, and bounds how many connections are kept.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import httpx
import stripe
import trio

from veza.gateways.certificates import certificates

CONNECTIONS: Final = 32  # the payouts' sixteen calls and what requests ask for beside them; more would wait in line
KEPT_SECONDS: Final = 60.0  # a new TLS connection costs several round trips: keep them between rounds

no_answer: Final[Callable[[str], stripe.APIConnectionError]] = stripe.APIConnectionError  # untyped in the package


class StripeHttp(stripe.HTTPClient):
    """A pool of connections. Close it."""

    name = "httpx"

    def __init__(self, timeout: float) -> None:
        super().__init__()
        self._client = httpx.AsyncClient(
            timeout=timeout,
            verify=certificates(),
            limits=httpx.Limits(
                max_connections=CONNECTIONS, max_keepalive_connections=CONNECTIONS, keepalive_expiry=KEPT_SECONDS
            ),
        )

    async def request_async(
        self, method: str, url: str, headers: Mapping[str, str], post_data: str | bytes | None = None
    ) -> tuple[bytes, int, Mapping[str, str]]:
        """One exchange. Raises stripe.APIConnectionError for whatever happens short of an answer."""
        try:
            answer = await self._client.request(method, url, headers=dict(headers), content=post_data or None)
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            raise no_answer(f"no answer: {type(error).__name__}") from error
        return answer.content, answer.status_code, answer.headers

    async def sleep_async(self, secs: float) -> None:
        await trio.sleep(secs)

    async def close_async(self) -> None:
        await self._client.aclose()
