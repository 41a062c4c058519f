"""What every page has in common, whatever it shows: how it is sent, and how its errors are told."""

from __future__ import annotations

from quart import Response, render_template

from veza.http import errors
from veza.http.assets import asset_url


def html_page(html: str, policy: str) -> Response:
    """A page that runs nothing but our own files, whatever finds its way into its text."""
    response = Response(html, content_type="text/html; charset=utf-8")
    response.headers["Content-Security-Policy"] = policy
    response.headers["Referrer-Policy"] = "no-referrer"
    response.headers["Cache-Control"] = "no-cache"
    return response


def policy(*, connect: str = "'self'", image: str = "'self'", media: str = "") -> str:
    """The Content-Security-Policy of a page: its scripts and styles are files of ours, and nothing stands in line."""
    return (
        f"default-src 'none'; script-src 'self'; style-src 'self'; img-src {image}; connect-src {connect};"
        + (f" media-src {media};" if media else "")
        + " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


async def tell(error: Exception) -> Response:
    """An error as a page, with the status, the headers and the log of any other."""
    answer = await errors.answer(error)
    told = errors.describe(error)
    page = html_page(await render_template("error.html", asset=asset_url, told=told), policy())
    page.status_code = answer.status_code
    page.headers.extend(told.headers)
    return page
