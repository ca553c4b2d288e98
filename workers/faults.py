"""Brings injected faults (chaos) from their rows to the S3 clients of this process."""

from __future__ import annotations

from collections.abc import Iterable

from app.db import faults
from app.db.session import session_scope
from app.s3.faults import FAULTS, Fault, FaultKind
from app.settings import get_settings


def obey_faults() -> None:
    """From now on this process's requests to sites meet the faults in force; never where chaos is not enabled."""
    FAULTS.load_from(_in_force if get_settings().chaos else None)


def _in_force() -> Iterable[Fault]:
    with session_scope() as session:
        return [
            Fault(site, FaultKind(row.kind), row.probability, row.latency_ms or 0.0, row.expires_at)
            for row, site in faults.in_force(session)
        ]
