"""The life of models: gates, shadows, drift, lineage; batches of predictions.

Revision 0005: follows 0004.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None
DOCUMENTS = ("rows", "importances", "reference", "gate")
NUMBERS = ("parent", "replaced")
DEMAND = ("reads_1d", "bytes_1d", "reads_7d", "bytes_7d", "reads_30d_low", "reads_30d_high")
TIMES = ("shadow_since", "retired_at")


def upgrade() -> None:
    """From 0004."""
    _life()
    _batches()
    _demand()


def _life() -> None:
    empty = sa.text("'{}'::jsonb")
    op.add_column("model_version", sa.Column("revision", sa.BigInteger, server_default="1", nullable=False))
    for name in DOCUMENTS:
        op.add_column("model_version", sa.Column(name, JSONB, server_default=empty, nullable=False))
    for name in NUMBERS:
        op.add_column("model_version", sa.Column(name, sa.BigInteger))
    for name in TIMES:
        op.add_column("model_version", sa.Column(name, sa.DateTime(timezone=True)))
    shadow = sa.text("state = 'shadow'")
    op.create_index("uq_model_version_shadow", "model_version", ["name"], unique=True, postgresql_where=shadow)
    version = sa.ForeignKey("model_version.id", ondelete="CASCADE")
    op.create_table(
        "shadow_score",
        sa.Column("model_version_id", sa.BigInteger, version, primary_key=True),
        sa.Column("as_of", sa.DateTime(timezone=True), primary_key=True),
        sa.Column("object_id", sa.BigInteger, sa.ForeignKey("object.id", ondelete="CASCADE"), primary_key=True),
        *(sa.Column(name, sa.Double, nullable=False) for name in ("p", "p_champion")),
    )
    op.create_index("ix_shadow_score_object_id", "shadow_score", ["object_id"])
    version = sa.ForeignKey("model_version.id", ondelete="CASCADE")
    op.create_table(
        "model_drift",
        sa.Column("model_version_id", sa.BigInteger, version, primary_key=True),
        sa.Column("as_of", sa.DateTime(timezone=True), nullable=False),
        sa.Column("report", JSONB, nullable=False),
    )


def _batches() -> None:
    op.create_table(
        "batch_page",
        sa.Column("job_id", sa.BigInteger, sa.ForeignKey("job.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("number", sa.BigInteger, primary_key=True),
        sa.Column("lines", sa.BigInteger, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
    )
    op.create_index("ix_batch_page_created_at", "batch_page", ["created_at"])


def _demand() -> None:
    version = sa.ForeignKey("model_version.id")
    op.add_column("prediction", sa.Column("demand_version_id", sa.BigInteger, version))
    for name in DEMAND:
        op.add_column("prediction", sa.Column(name, sa.Double))


def downgrade() -> None:
    """To 0004."""
    for name in ("demand_version_id", *DEMAND):
        op.drop_column("prediction", name)
    for table in ("batch_page", "model_drift", "shadow_score"):
        op.drop_table(table)
    op.execute("update model_version set state = 'candidate' where state = 'shadow'")
    op.drop_index("uq_model_version_shadow", "model_version")
    for name in ("revision", *DOCUMENTS, *NUMBERS, *TIMES):
        op.drop_column("model_version", name)
