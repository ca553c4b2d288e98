"""The data pipeline: topics and their consumers, metrics in buckets, ingest, batch operations.

Revision 0007: follows 0006.
"""

from __future__ import annotations

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """From 0006."""
    _ingest()
    _topics()
    _metrics()
    _batch()


def _ingest() -> None:
    """Accesses."""


def _topics() -> None:
    """Topics and consumer groups."""


def _metrics() -> None:
    """Metrics."""


def _batch() -> None:
    """Batch operations and exports."""


def downgrade() -> None:
    """To 0006."""
