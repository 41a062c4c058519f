"""Stripe's connected accounts and the links that onboard them."""

from __future__ import annotations

import secrets
import time
from sqlite3 import Row
from typing import Literal

from veza.sandbox.desk import Call, Refused, Reply, new_id
from veza.sandbox.store import Object, Store, to_json
from veza.sandbox.stripe_book import StripeBook
from veza.sandbox.stripe_errors import account_invalid, invalid, no_such
from veza.sandbox.stripe_params import check_names, currency, metadata, text

# Every published parameter of POST /v1/accounts; what the sandbox doesn't imitate is accepted and left alone.
ACCOUNT_FIELDS = (
    "account_token",
    "business_profile",
    "business_type",
    "capabilities",
    "company",
    "controller",
    "country",
    "default_currency",
    "documents",
    "email",
    "expand",
    "external_account",
    "groups",
    "individual",
    "metadata",
    "settings",
    "tos_acceptance",
    "type",
)
LINK_FIELDS = ("account", "collect", "collection_options", "expand", "refresh_url", "return_url", "type")
ACCOUNT_TYPES = ("custom", "express", "standard")
LINK_TYPES = ("account_onboarding", "account_update")
CURRENCY_OF = {"US": "usd", "GB": "gbp", "CH": "chf", "SE": "sek", "DK": "dkk", "NO": "nok", "PL": "pln"}

TransfersState = Literal["active", "inactive", "pending", "unrequested"]


class Accounts:
    def __init__(self, store: Store, book: StripeBook, link_seconds: int) -> None:
        self._store = store
        self._book = book
        self._link_seconds = link_seconds

    def create(self, call: Call, _: str) -> Reply:
        check_names(call.params, ACCOUNT_FIELDS)
        kind = text(call.params, "type") or "standard"
        if kind not in ACCOUNT_TYPES:
            raise invalid(f"Invalid type: must be one of {', '.join(ACCOUNT_TYPES)}", None, "type")
        country = (text(call.params, "country") or "US").upper()
        money = currency(call.params, "default_currency") if "default_currency" in call.params else None
        row = self.add(
            kind=kind,
            country=country,
            money=money or CURRENCY_OF.get(country, "eur"),
            email=text(call.params, "email"),
            business_type=text(call.params, "business_type"),
            tags=metadata(call.params),
            requested=requested_capabilities(call.params),
            onboarded=False,
        )
        return Reply.json(self._book.account_object(row))

    def add(
        self,
        *,
        kind: str,
        country: str,
        money: str,
        email: str | None,
        business_type: str | None,
        tags: Object,
        requested: list[str],
        onboarded: bool,
    ) -> Row:
        account_id = new_id("acct_", 16)
        state: TransfersState = "unrequested"
        if "transfers" in requested:
            state = "active" if onboarded else "inactive"
        self._store.insert(
            "accounts",
            {
                "id": account_id,
                "created": int(time.time()),
                "type": kind,
                "country": country,
                "email": email,
                "default_currency": money,
                "business_type": business_type,
                "metadata": to_json(tags),
                "requested": to_json(list(requested)),
                "transfers": state,
                "details_submitted": onboarded,
            },
        )
        return self.found(account_id)

    def found(self, account_id: str) -> Row:
        row = self._book.account(account_id)
        if row is None:
            raise Refused(account_invalid(account_id), begun=False)
        return row

    def retrieve(self, call: Call, account_id: str) -> Reply:
        check_names(call.params, ("expand",))
        row = self.found(account_id)
        if row["revoked"]:
            raise Refused(account_invalid(account_id), begun=False)
        return Reply.json(self._book.account_object(row))

    def change(self, account_id: str, *, transfers: str | None, submitted: bool | None, revoked: bool | None) -> Object:
        """Set what Stripe's own staff or the seller would have changed, and tell the platform of it."""
        row = self.found(account_id)
        state = row["transfers"] if transfers is None or row["transfers"] == "unrequested" else transfers
        self._store.run(
            "update accounts set transfers = ?, details_submitted = ?, revoked = ? where id = ?",
            state,
            row["details_submitted"] if submitted is None else submitted,
            row["revoked"] if revoked is None else revoked,
            account_id,
        )
        changed = self._book.account_object(self.found(account_id))
        self._book.emit("account.updated", changed, None, account_id)
        return changed

    def create_link(self, call: Call, _: str) -> Reply:
        check_names(call.params, LINK_FIELDS, ("account", "refresh_url", "return_url", "type"))
        if call.params["type"] not in LINK_TYPES:
            raise invalid(f"Invalid type: must be one of {', '.join(LINK_TYPES)}", None, "type")
        account = text(call.params, "account") or ""
        if self._book.account(account) is None:
            raise Refused(no_such("account", account, "account", 400))
        now, token = int(time.time()), secrets.token_urlsafe(24)
        self._store.insert(
            "account_links",
            {
                "token": token,
                "account": account,
                "return_url": text(call.params, "return_url"),
                "refresh_url": text(call.params, "refresh_url"),
                "expires_at": now + self._link_seconds,
            },
        )
        link: Object = {
            "object": "account_link",
            "created": now,
            "expires_at": now + self._link_seconds,
            "url": f"{call.base_url}/sandbox/onboarding/{token}",
        }
        return Reply.json(link)

    def link(self, token: str) -> tuple[Row, bool] | None:
        """A link and whether it can still be used; None for a token that never was one."""
        row = self._store.row("select * from account_links where token = ?", token)
        return None if row is None else (row, not row["used"] and time.time() < row["expires_at"])

    def complete(self, token: str) -> str | None:
        """Finish onboarding, once. Answers where the seller's browser goes; None for a token that never was one."""
        with self._store.transaction():
            found = self.link(token)
            if found is None:
                return None
            row, usable = found
            if not usable:
                return str(row["refresh_url"])
            self._store.run("update account_links set used = 1 where token = ?", token)
            self.change(row["account"], transfers="active", submitted=True, revoked=None)
            return str(row["return_url"])


def requested_capabilities(params: Object) -> list[str]:
    """Only what is requested can become active, as at Stripe."""
    given = params.get("capabilities", {})
    if not isinstance(given, dict):
        raise invalid("Invalid hash: capabilities", None, "capabilities")
    wishes = {name: wish.get("requested") for name, wish in given.items() if isinstance(wish, dict)}
    return [name for name, requested in wishes.items() if requested in ("true", "True")]
