"""What models learn from and go by: when an object ended, versions' numbers, what shadows say, uploads of events.

Revision 0006: follows 0005.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None
ENDS_BEFORE = """
update object o set gone_at = coalesce(told.at, greatest(o.written_at, read.at))
from object g
left join (select subject, max(at) as at from audit where action = 'object.gone' group by 1) told
    on told.subject = g.key
left join (select object_id, max(last_ts) as at from access_hour group by 1) read on read.object_id = g.id
where g.id = o.id and o.state = 'gone'
"""
"""The audit log says when an object ended; where it does not, that was after its last write and its last access."""
SHADOW_SAID = ("p", "p_champion")


def upgrade() -> None:
    """From 0005."""
    _numbers()
    _ends()
    _shadows()
    _uploads()


def _numbers() -> None:
    """Versions' numbers: a counter of each name, that of its newest version to begin with."""
    op.create_table(
        "model_name",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("last_version", sa.BigInteger, nullable=False),
        sa.Column("deleted_revisions", sa.BigInteger, server_default="0", nullable=False),
    )
    op.execute("insert into model_name (name, last_version) select name, max(version) from model_version group by name")


def _ends() -> None:
    """When objects ended, and what they were before."""
    op.add_column("object", sa.Column("gone_at", sa.DateTime(timezone=True)))
    op.execute(ENDS_BEFORE)
    op.create_table(
        "object_former",
        sa.Column("object_id", sa.BigInteger, sa.ForeignKey("object.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("until", sa.DateTime(timezone=True), primary_key=True),
        sa.Column("size", sa.BigInteger),
        sa.Column("gone_at", sa.DateTime(timezone=True)),
    )
    op.create_index("ix_object_former_until", "object_former", ["until"])


def _shadows() -> None:
    """What a shadow says may be several numbers; what was said until now is said again."""
    op.execute("delete from shadow_score")
    for name in SHADOW_SAID:
        op.drop_column("shadow_score", name)
    for name in ("said", "said_champion"):
        op.add_column("shadow_score", sa.Column(name, ARRAY(sa.Double), nullable=False))


def _uploads() -> None:
    """Pages of events whose upload is under way."""
    op.create_table(
        "upload_page",
        sa.Column("upload_id", sa.Uuid, primary_key=True),
        sa.Column("number", sa.BigInteger, primary_key=True),
        sa.Column("lines", sa.BigInteger, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False),
    )
    op.create_index("ix_upload_page_created_at", "upload_page", ["created_at"])


def downgrade() -> None:
    """To 0005."""
    op.drop_table("upload_page")
    op.execute("delete from shadow_score")
    for name in ("said", "said_champion"):
        op.drop_column("shadow_score", name)
    for name in SHADOW_SAID:
        op.add_column("shadow_score", sa.Column(name, sa.Double, nullable=False))
    op.drop_table("model_name")
    op.drop_table("object_former")
    op.drop_column("object", "gone_at")
