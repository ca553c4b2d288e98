"""Brings injected faults (chaos) from their rows to the S3 clients of this process."""

from __future__ import annotations

from collections.abc import Iterable

from app.db import faults
from app.db.session import session_scope
from app.domain.faults import DEFAULT_STATUS, FaultKind
from app.s3.faults import FAULTS, Fault
from app.settings import get_settings


def obey_faults() -> None:
    """From now on this process's requests to sites meet the faults in force; never where chaos is not enabled."""
    FAULTS.load_from(_in_force if get_settings().chaos else None)


def _in_force() -> Iterable[Fault]:
    with session_scope() as session:
        return [
            Fault(
                site=site,
                kind=FaultKind(row.kind),
                probability=row.probability,
                latency_ms=row.latency_ms or 0.0,
                expires_at=row.expires_at,
                status=row.status or DEFAULT_STATUS,
            )
            for row, site in faults.in_force(session)
        ]
