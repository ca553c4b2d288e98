"""What models learn from and go by: when an object ended, versions' numbers.

Revision 0006: follows 0005.
"""

from __future__ import annotations

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """From 0005."""


def downgrade() -> None:
    """To 0005."""
