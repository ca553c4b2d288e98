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
KEPT = (
    "state = 'done' and reason in ('source_kept_no_guarded_delete', 'source_kept_object_lock', 'source_kept_pinned', "
    "'source_kept_too_few_replicas', 'source_kept_version_hidden')"
)

SITE_KEYS = {
    ("replica", "site_id"): "CASCADE",
    ("move", "from_site_id"): "SET NULL",
    ("move", "to_site_id"): "SET NULL",
    ("migration", "from_site_id"): "SET NULL",
    ("migration", "to_site_id"): "SET NULL",
}
"""What becomes of a row whose site is forgotten."""


def refer_to_site(*, on_delete: bool) -> None:
    for (table, column), action in SITE_KEYS.items():
        name = f"fk_{table}_{column}"
        op.drop_constraint(name, table, type_="foreignkey")
        op.create_foreign_key(name, table, "site", [column], ["id"], ondelete=action if on_delete else None)


def upgrade() -> None:
    refer_to_site(on_delete=True)
    op.add_column("job", sa.Column("paused_reason", sa.Text(), nullable=True))
    op.add_column("job", sa.Column("resumed_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("migration", sa.Column("fingerprint", postgresql.JSONB(), nullable=True))
    op.add_column("migration", sa.Column("reserved", postgresql.JSONB(), nullable=True))
    op.execute(RESERVED_BEFORE)
    op.create_index("ix_migration_kept", "migration", ["next_attempt_at"], postgresql_where=sa.text(KEPT))
    op.create_table(
        "old_version",
        sa.Column("id", sa.BigInteger(), nullable=False),
        sa.Column("object_id", sa.BigInteger(), nullable=False),
        sa.Column("site_id", sa.BigInteger(), nullable=False),
        sa.Column("migration_id", sa.BigInteger(), nullable=True),
        sa.Column("version_id", sa.Text(), nullable=False),
        sa.Column("pin", postgresql.JSONB(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("left_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["object_id"], ["object.id"], name="fk_old_version_object_id", ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["site_id"], ["site.id"], name="fk_old_version_site_id", ondelete="CASCADE"),
        sa.ForeignKeyConstraint(
            ["migration_id"], ["migration.id"], name="fk_old_version_migration_id", ondelete="SET NULL"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_old_version"),
    )
    op.create_index("uq_old_version", "old_version", ["site_id", "object_id", "version_id"], unique=True)
    op.create_index("ix_old_version_standing", "old_version", ["id"], postgresql_where=sa.text("ended_at is null"))
    op.add_column("migration", sa.Column("delete_intended_at", sa.DateTime(timezone=True), nullable=True))
    op.execute("update migration set delete_intended_at = now() where state = 'draining'")
    op.add_column("replica", sa.Column("removing", sa.Text(), nullable=True))
    op.add_column("replica", sa.Column("checked_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("fault", sa.Column("status", sa.BigInteger(), nullable=True))
    op.create_table(
        "finding",
        sa.Column("id", sa.BigInteger(), nullable=False),
        sa.Column("site_id", sa.BigInteger(), nullable=False),
        sa.Column("key", sa.Text(collation="C"), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("why", sa.Text(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=True),
        sa.Column("intent", sa.Text(), nullable=True),
        sa.Column("pin", postgresql.JSONB(), server_default=sa.text("'{}'::jsonb"), nullable=False),
        sa.Column("first_seen_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("last_seen_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("resolved_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["site_id"], ["site.id"], name="fk_finding_site_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name="pk_finding"),
    )
    open_only = sa.text("resolved_at is null")
    op.create_index("uq_finding_open", "finding", ["site_id", "key", "kind"], unique=True, postgresql_where=open_only)
    op.create_table(
        "scrub_line",
        sa.Column("job_id", sa.BigInteger(), nullable=False),
        sa.Column("key", sa.Text(collation="C"), nullable=False),
        sa.Column("known", postgresql.JSONB(), nullable=True),
        sa.Column("listed", postgresql.JSONB(), nullable=True),
        sa.ForeignKeyConstraint(["job_id"], ["job.id"], name="fk_scrub_line_job_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("job_id", "key", name="pk_scrub_line"),
    )


def downgrade() -> None:
    refer_to_site(on_delete=False)
    op.drop_table("scrub_line")
    op.drop_table("finding")
    op.drop_column("fault", "status")
    op.drop_column("replica", "checked_at")
    op.drop_column("replica", "removing")
    op.drop_column("migration", "delete_intended_at")
    op.drop_index("ix_migration_kept", "migration")
    op.drop_table("old_version")
    op.drop_column("migration", "reserved")
    op.drop_column("migration", "fingerprint")
    op.drop_column("job", "resumed_at")
    op.drop_column("job", "paused_reason")
