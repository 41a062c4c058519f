"""The chapters of the API's document, by where their routes stand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Chapter:
    """``paths`` are how those of its routes begin, below the API's prefix; of several chapters the closest has it."""

    name: str
    about: str
    paths: tuple[str, ...]


PRODUCT: Final = "/marketplace/products/{product_id}"
ORDER: Final = "/marketplace/orders/{order_id}"

CHAPTERS: Final = (
    Chapter("Authentication", "Signing up, in, on and out, and the devices one is signed in on.", ("/auth/",)),
    Chapter("Users", "One's own account, and everything that is held about it as an archive.", ("/users/",)),
    Chapter("Privacy", "What one says of selling and sharing one's data.", ("/users/me/privacy",)),
    Chapter(
        "Products",
        "What is for sale, its files, its cover and its preview.",
        ("/marketplace/products",),
    ),
    Chapter("Reviews", "Anyone reads them, buyers write them, sellers respond.", (f"{PRODUCT}/reviews",)),
    Chapter("Orders", "Buying, and what was bought.", ("/marketplace/orders", "/marketplace/library")),
    Chapter(
        "Invoices",
        "Invoices and credit notes, as PDF/A-3 with Factur-X data.",
        (f"{ORDER}/invoice", f"{ORDER}/refunds/{{refund_id}}/credit-note"),
    ),
    Chapter("Refunds", "What goes back to buyers.", (f"{ORDER}/refund", "/sell/refunds")),
    Chapter("Selling", "The account that is paid out to, what was sold, and where its money is.", ("/sell/",)),
    Chapter("Live streaming", "Streams, their keys, and how they are.", ("/live/",)),
    Chapter("Cloud storage", "Files of one's own, their snapshots, and links to them.", ("/cloud/", "/objects/")),
    Chapter("Gear", "An inventory with its documents and repairs.", ("/inventory/",)),
    Chapter("Tags", "What others have called theirs.", ("/tags/",)),
    Chapter("Notifications", "Listed, read, and told as they come to be.", ("/notifications",)),
    Chapter("Reports", "Telling admins of what should not be here.", ("/reports",)),
    Chapter("Announcements", "What everybody is told.", ("/announcements/",)),
    Chapter(
        "Admin: money",
        "Transfers, refunds, debts, disputes, and the books.",
        tuple(f"/admin/{noun}" for noun in ("transfers", "refunds", "debts", "disputes", "ledger", "reconciliations")),
    ),
    Chapter("Admin: people", "Accounts, bans, roles and reports.", ("/admin/users", "/admin/reports")),
    Chapter(
        "Admin: platform",
        "Announcements, feature flags, maintenance, and who did what.",
        tuple(f"/admin/{noun}" for noun in ("announcements", "feature-flags", "maintenance", "audit")),
    ),
    Chapter("Admin: actors", "The supervision tree of the process that answers, and a hand on it.", ("/admin/actors",)),
    Chapter("Health", "Probes and metrics.", ("/health", "/readyz", "/metrics")),
    Chapter("Webhooks", "What payment providers tell us, signed.", ("/webhooks/",)),
    Chapter("Ingest hooks", "What ingest servers ask and tell us; the address holds their token.", ("/hooks/",)),
)

LEGACY: Final = Chapter("Deprecated", "Routes from before there was a prefix: they answer as their twins do.", ())


def chapter_of(path: str) -> Chapter | None:
    """The chapter of a route, by its path below the API's prefix."""
    found = [(len(begins), chapter) for chapter in CHAPTERS for begins in chapter.paths if path.startswith(begins)]
    return max(found, key=lambda each: each[0])[1] if found else None
