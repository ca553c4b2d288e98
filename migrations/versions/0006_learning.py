"""What models learn from and go by: when an object ended, versions' numbers.

Revision 0006: follows 0005.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """From 0005."""
    _numbers()


def _numbers() -> None:
    """Versions' numbers: a counter of each name, that of its newest version to begin with."""
    op.create_table(
        "model_name",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("last_version", sa.BigInteger, nullable=False),
        sa.Column("deleted_revisions", sa.BigInteger, server_default="0", nullable=False),
    )
    op.execute("insert into model_name (name, last_version) select name, max(version) from model_version group by name")


def downgrade() -> None:
    """To 0005."""
    op.drop_table("model_name")
