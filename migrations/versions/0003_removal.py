"""When an object was last written as far as is known, and who removes a copy.

Revision 0003: follows 0002.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """From 0002."""
    now = sa.text("now()")
    op.add_column("object", sa.Column("written_at", sa.DateTime(timezone=True), server_default=now, nullable=False))
    op.drop_index("ix_migration_plan_id", "migration")
    op.create_index("ix_migration_plan_object", "migration", ["plan_id", "object_id"])
    op.create_index("ix_migration_object_id", "migration", ["object_id"])
    op.create_index("ix_migration_intent_id", "migration", ["intent_id"])
    empty = sa.text("'{}'::jsonb")
    op.add_column("site", sa.Column("kms_keys", JSONB, server_default=empty, nullable=False))
    op.add_column("migration", sa.Column("restore_usd", sa.Numeric(24, 12)))
    op.add_column("migration", sa.Column("restored_at", sa.DateTime(timezone=True)))
    op.execute("update replica set state = 'removing', removing = '' where state = 'draining' and removing is not null")


def downgrade() -> None:
    """To 0002."""
    op.execute("update replica set state = 'draining', removing = 'leftover' where state = 'removing'")
    op.drop_column("site", "kms_keys")
    op.drop_column("migration", "restored_at")
    op.drop_column("migration", "restore_usd")
    op.drop_column("object", "written_at")
    op.drop_index("ix_migration_intent_id", "migration")
    op.drop_index("ix_migration_object_id", "migration")
    op.drop_index("ix_migration_plan_object", "migration")
    op.create_index("ix_migration_plan_id", "migration", ["plan_id"])
