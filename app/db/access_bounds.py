"""What the time of an access may be, and the sites that it may name (step: ingest)."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy.orm import Session

from app.db import policies, sites
from app.domain.access_lines import Bounds
from app.settings import get_settings


def load(session: Session, now: datetime) -> Bounds:
    """The bounds at an aware time, by policy and settings."""
    settings = get_settings()
    return Bounds(
        oldest=now - timedelta(days=retention_days(session)),
        newest=now + timedelta(seconds=settings.future_skew_s),
        site_ids={site.name: site.id for site in sites.listing(session)},
    )


def retention_days(session: Session) -> int:
    """For how many days accesses are kept: by the policy, else by the setting."""
    return int(policies.load(session).document("retention").get("days", get_settings().retention_days))
