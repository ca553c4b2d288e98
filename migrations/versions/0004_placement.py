"""What a site may hold and serve.

Revision 0004: follows 0003.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """From 0003."""
    op.add_column("site", sa.Column("capacity_bytes", sa.BigInteger))
    op.add_column("site", sa.Column("max_request_rate", sa.Double))


def downgrade() -> None:
    """To 0003."""
    op.drop_column("site", "max_request_rate")
    op.drop_column("site", "capacity_bytes")
