"""What the migration engine keeps beside the moves themselves.

Revision 0002: follows 0001.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

RESERVED_BEFORE = """
update migration set reserved = jsonb_build_object(
    'bytes', bytes_total, 'moves', 1, 'nano_usd', ceil(one_off * 1000000000)::bigint, 'requests', 0)
where reserved_on is not null
"""


def upgrade() -> None:
    op.add_column("job", sa.Column("paused_reason", sa.Text(), nullable=True))
    op.add_column("job", sa.Column("resumed_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("migration", sa.Column("fingerprint", postgresql.JSONB(), nullable=True))
    op.add_column("migration", sa.Column("reserved", postgresql.JSONB(), nullable=True))
    op.execute(RESERVED_BEFORE)
    op.add_column("migration", sa.Column("delete_intended_at", sa.DateTime(timezone=True), nullable=True))
    op.execute("update migration set delete_intended_at = now() where state = 'draining'")
    op.add_column("replica", sa.Column("checked_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("fault", sa.Column("status", sa.BigInteger(), nullable=True))


def downgrade() -> None:
    op.drop_column("fault", "status")
    op.drop_column("replica", "checked_at")
    op.drop_column("migration", "delete_intended_at")
    op.drop_column("migration", "reserved")
    op.drop_column("migration", "fingerprint")
    op.drop_column("job", "resumed_at")
    op.drop_column("job", "paused_reason")
