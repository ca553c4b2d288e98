"""The clock by which accesses, features, predictions and plans are judged: the wall clock, or a replayed trace's own.

Leases, retries and times-out keep to the database's clock.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from app.settings import get_settings


def now() -> datetime:
    """The present, aware, in UTC."""
    return datetime.now(UTC) + timedelta(seconds=get_settings().clock_offset_s)
