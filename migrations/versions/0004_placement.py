"""What a site may hold and serve, when moves are due, what voters say of objects, and what moves have saved.

Revision 0004: follows 0003.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None
TIMES = ("not_before", "ready_by", "useful_until")


def upgrade() -> None:
    """From 0003."""
    op.add_column("site", sa.Column("capacity_bytes", sa.BigInteger))
    op.add_column("site", sa.Column("max_request_rate", sa.Double))
    for table in ("move", "migration"):
        for name in TIMES:
            op.add_column(table, sa.Column(name, sa.DateTime(timezone=True)))
    some = sa.text("ready_by is not null")
    op.create_index("ix_migration_ready_by", "migration", ["ready_by"], postgresql_where=some)
    op.add_column("migration", sa.Column("tee", sa.String(length=16)))
    op.add_column("migration", sa.Column("tee_fence", sa.BigInteger))
    op.create_table(
        "object_opinion",
        sa.Column("object_id", sa.BigInteger, sa.ForeignKey("object.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("model_version_id", sa.BigInteger, sa.ForeignKey("model_version.id"), nullable=False),
        sa.Column("as_of", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ballots", JSONB, nullable=False),
        sa.Column("back_at", sa.DateTime(timezone=True)),
    )
    op.create_table(
        "saving",
        sa.Column("migration_id", sa.BigInteger, sa.ForeignKey("migration.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("object_id", sa.BigInteger, sa.ForeignKey("object.id", ondelete="CASCADE"), nullable=False),
        *(
            sa.Column(name, sa.Text, nullable=False)
            for name in ("cohort", "site", "from_site", "from_class", "to_class")
        ),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("demotion", sa.Boolean, nullable=False),
        sa.Column("days_before", sa.Double, nullable=False),
        sa.Column("is_owed", sa.Boolean, nullable=False),
        sa.Column("moved_on", sa.Date, nullable=False),
        sa.Column("through", sa.Date, nullable=False),
        sa.Column("ended_on", sa.Date),
        sa.Column("reason", sa.Text),
        sa.Column("unknown_days", sa.BigInteger, server_default="0", nullable=False),
        sa.Column("idle_days", sa.Double, nullable=False),
        sa.Column("fee", sa.Numeric(24, 12)),
        *(sa.Column(name, sa.Numeric(24, 12), nullable=False) for name in ("actual", "stayed", "owed")),
    )
    op.create_index("ix_saving_object_id", "saving", ["object_id"])
    op.create_index("ix_saving_cohort_moved_on", "saving", ["cohort", "moved_on"])


def downgrade() -> None:
    """To 0003."""
    op.drop_column("migration", "tee_fence")
    op.drop_column("migration", "tee")
    for table in ("move", "migration"):
        for name in TIMES:
            op.drop_column(table, name)
    op.drop_table("saving")
    op.drop_table("object_opinion")
    op.drop_column("site", "max_request_rate")
    op.drop_column("site", "capacity_bytes")
