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
    """Accesses: one index that finds duplicates and appends where rows are new; the rest cost more than they gave."""
    op.drop_constraint("pk_access", "access")
    op.drop_index("ix_access_object_id_ts", "access")
    op.drop_index("ix_access_batch_id", "access")
    op.drop_index("uq_access_event_id_ts", "access")
    op.drop_column("access", "line")
    op.alter_column("access", "event_id", type_=sa.Text(collation="C"))
    where = sa.text("event_id is not null")
    op.create_index("uq_access_ts_event_id", "access", ["ts", "event_id"], unique=True, postgresql_where=where)
    op.create_index("ix_access_batch_id_ts", "access", ["batch_id", "ts"], postgresql_using="brin")


def _topics() -> None:
    """Topics and consumer groups."""
    op.create_table(
        "topic",
        sa.Column("name", sa.Text, primary_key=True),
        *(_counted(name) for name in ("first_offset", "next_offset", "bytes", "rejected", "duplicates")),
        _time("published_at", nullable=True),
    )
    op.create_table(
        "topic_block",
        sa.Column("topic", sa.Text, sa.ForeignKey("topic.name"), primary_key=True),
        sa.Column("base_offset", sa.BigInteger, primary_key=True),
        *(sa.Column(name, sa.BigInteger, nullable=False) for name in ("lines", "size", "packed")),
        sa.Column("body", sa.LargeBinary, nullable=False),
        sa.Column("key", sa.Text),
        sa.Column("sha256", sa.Text),
        _time("received_at"),
    )
    op.execute("alter table topic_block alter column body set storage external")  # it is packed already
    keyed = sa.text("key is not null")
    op.create_index("uq_topic_block_key", "topic_block", ["topic", "key"], unique=True, postgresql_where=keyed)
    op.create_table(
        "topic_group",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("topic", sa.Text, sa.ForeignKey("topic.name"), primary_key=True),
        sa.Column("partition", sa.BigInteger, primary_key=True, server_default="0"),
        _counted("position"),
        sa.Column("end_offset", sa.BigInteger),
        sa.Column("member", sa.Text),
        _time("lease_until", nullable=True),
        *(_counted(name) for name in ("fence", "attempts")),
        sa.Column("suspect_until", sa.BigInteger),
        _time("next_attempt_at"),
        sa.Column("error", JSONB),
        *(_counted(name) for name in ("handled", "skipped", "batches", "failures")),
        sa.Column("busy_s", sa.Double, server_default="0", nullable=False),
        _time("rung_at", nullable=True),
        *(_time(name) for name in ("created_at", "updated_at")),
    )
    op.create_table(
        "dead_letter",
        sa.Column("id", sa.BigInteger, primary_key=True),
        sa.Column("group_name", sa.Text, nullable=False),
        sa.Column("topic", sa.Text, sa.ForeignKey("topic.name"), nullable=False),
        _counted("partition"),
        sa.Column("offset", sa.BigInteger, nullable=False),
        sa.Column("event", sa.LargeBinary, nullable=False),
        sa.Column("state", sa.String(16), server_default="dead", nullable=False),
        sa.Column("error", JSONB, nullable=False),
        sa.Column("attempts", sa.BigInteger, server_default="1", nullable=False),
        *(_time(name) for name in ("created_at", "updated_at")),
    )
    event = ["group_name", "topic", "partition", "offset"]
    op.create_index("uq_dead_letter_event", "dead_letter", event, unique=True)
    unfinished = sa.text("state in ('dead', 'retry')")
    op.create_index("ix_dead_letter_open", "dead_letter", ["state", "id"], postgresql_where=unfinished)


def _counted(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger, server_default="0", nullable=False)


def _time(name: str, *, nullable: bool = False) -> sa.Column[object]:
    default = None if nullable else sa.text("now()")
    return sa.Column(name, sa.DateTime(timezone=True), server_default=default, nullable=nullable)


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
    now = sa.text("now()")
    op.create_table(
        "access_export",
        sa.Column("day", sa.Date, primary_key=True),
        sa.Column("site_id", sa.BigInteger, sa.ForeignKey("site.id", ondelete="CASCADE"), nullable=False),
        sa.Column("key", sa.Text, nullable=False),
        *(sa.Column(name, sa.BigInteger, nullable=False) for name in ("version", "rows", "bytes", "blocks")),
        *(sa.Column(name, sa.Text, nullable=False) for name in ("sha256", "etag")),
        sa.Column("exported_at", sa.DateTime(timezone=True), server_default=now, nullable=False),
    )
    op.create_index("ix_access_export_site_id", "access_export", ["site_id"])


def downgrade() -> None:
    """To 0006."""
    for table in (
        "metric_items",
        "metric_part",
        "metric_stream",
        "access_export",
        "dead_letter",
        "topic_group",
        "topic_block",
        "topic",
    ):
        op.drop_table(table)
    _ingest_undone()


def _ingest_undone() -> None:
    op.drop_index("ix_access_batch_id_ts", "access")
    op.drop_index("uq_access_ts_event_id", "access")
    op.alter_column("access", "event_id", type_=sa.Text())
    op.add_column("access", sa.Column("line", sa.BigInteger(), nullable=True))
    op.execute(
        "update access a set line = n.line from (select ctid, tableoid,"
        " row_number() over (partition by batch_id order by ts, event_id) - 1 as line from access) n"
        " where a.ctid = n.ctid and a.tableoid = n.tableoid"
    )
    op.alter_column("access", "line", nullable=False)
    op.create_primary_key("pk_access", "access", ["ts", "batch_id", "line"])
    where = sa.text("event_id is not null")
    op.create_index("uq_access_event_id_ts", "access", ["event_id", "ts"], unique=True, postgresql_where=where)
    op.create_index("ix_access_object_id_ts", "access", ["object_id", "ts"])
    op.create_index("ix_access_batch_id", "access", ["batch_id"], postgresql_using="brin")
