"""Tags: what others have called theirs, for who begins to type one."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import AfterValidator, Field
from quart import Blueprint
from quart_schema import validate_querystring, validate_response

from veza.domain.catalog import TAG_LENGTH, fold_tag
from veza.http.auth import login_required
from veza.http.envelope import Envelope, Out, Query
from veza.http.fields import WholeNumber
from veza.http.parts import parts

api = Blueprint("tags", __name__)

DEFAULT_LIMIT: Final = 10
MAX_LIMIT: Final = 50


def _beginning(text: str) -> str:
    folded = fold_tag(text)
    if len(folded) > TAG_LENGTH:
        raise ValueError(f"A tag has at most {TAG_LENGTH} characters.")
    return folded


class SuggestQuery(Query):
    q: Annotated[str, AfterValidator(_beginning)] = Field(description="How it begins, of at most 40 characters.")
    limit: WholeNumber = Field(DEFAULT_LIMIT, ge=1, le=MAX_LIMIT)


class SuggestionsOut(Out):
    suggestions: list[str]


class Suggestions(Envelope[SuggestionsOut]):
    """What is in ``data`` stands beside it as well: there are clients of either shape."""

    suggestions: list[str]


@api.get("/tags/suggest")
@login_required
@validate_querystring(SuggestQuery)
@validate_response(Suggestions)
async def suggest_tags(query_args: SuggestQuery) -> Suggestions:
    """Tags that begin with `q`, whatever its case and accents.

    The most used first, then by the alphabet. They are those of products on sale and of streams, drafts aside. Nothing
    begins with a blank `q`.
    """
    found = await parts().tags.suggest(query_args.q, limit=query_args.limit) if query_args.q else []
    return Suggestions(data=SuggestionsOut(suggestions=found), suggestions=found)
