"""Notifications: what a user is told by the platform, in a sentence for them and fields for programs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final
from uuid import UUID

TICKET_LIFETIME: Final = timedelta(seconds=60)


class NotificationKind(StrEnum):
    EXPORT_READY = "export_ready"
    EXPORT_FAILED = "export_failed"
    WARRANTY_ENDING = "warranty_ending"
    ACCOUNT_BANNED = "account_banned"
    BAN_LIFTED = "ban_lifted"
    ACCOUNT_WARNED = "account_warned"
    REPORT_REVIEWED = "report_reviewed"


@dataclass(frozen=True)
class News:
    """What is to be told. ``data`` holds identifiers, and nothing that a list of them should not show."""

    kind: NotificationKind
    title: str
    body: str = ""
    data: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Notification:
    """``number`` counts a user's notifications, without gaps and in the order in which they came to be."""

    id: UUID
    user_id: UUID
    number: int
    kind: NotificationKind
    title: str
    body: str
    data: Mapping[str, object]
    created_at: datetime
    read_at: datetime | None
