"""The data pipeline: topics and their consumers, metrics in buckets, ingest, batch operations.

Revision 0007: follows 0006.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

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
    """Metrics: streams, samples by bucket, items by weight."""
    bytewise = sa.Text(collation="C")
    now = sa.text("now()")
    op.create_table(
        "metric_stream",
        sa.Column("id", sa.BigInteger, primary_key=True),
        *(sa.Column(name, bytewise, nullable=False) for name in ("name", "label")),
        sa.Column("expired", sa.BigInteger, server_default="0", nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=now, nullable=False),
    )
    op.create_index("uq_metric_stream_name_label", "metric_stream", ["name", "label"], unique=True)
    op.create_table(
        "metric_part",
        sa.Column("stream_id", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("bucket", sa.DateTime(timezone=True), primary_key=True),
        sa.Column("id", sa.BigInteger, primary_key=True, autoincrement=True),
        sa.Column("count", sa.BigInteger, nullable=False),
        *(sa.Column(name, sa.Double, nullable=False) for name in ("base", "total", "m2", "low", "high")),
        sa.Column("sketched", sa.Boolean, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
    )
    op.create_index("ix_metric_part_bucket", "metric_part", ["bucket"])
    op.execute("alter table metric_part alter column body set storage external")  # doubles do not get smaller
    op.create_table(
        "metric_items",
        sa.Column("name", bytewise, primary_key=True),
        sa.Column("bucket", sa.DateTime(timezone=True), primary_key=True),
        sa.Column("id", sa.BigInteger, primary_key=True, autoincrement=True),
        sa.Column("weights", JSONB, nullable=False),
        sa.Column("error", sa.Double, nullable=False),
    )


def _batch() -> None:
    """Batch operations and exports."""


def downgrade() -> None:
    """To 0006."""
    for table in ("metric_items", "metric_part", "metric_stream"):
        op.drop_table(table)
