"""The first tables.

Revision 0001: the first.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "access",
        sa.Column("ts", sa.DateTime(timezone=True), nullable=False),
        sa.Column("batch_id", sa.BigInteger(), nullable=False),
        sa.Column("line", sa.BigInteger(), nullable=False),
        sa.Column("object_id", sa.BigInteger(), nullable=False),
        sa.Column("op", sa.Text(), nullable=False),
        sa.Column("site_id", sa.BigInteger(), nullable=True),
        sa.Column("bytes", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("status", sa.BigInteger(), nullable=True),
        sa.Column("event_id", sa.Text(), nullable=True),
        sa.Column("region", sa.Text(), nullable=True),
        sa.Column("client", sa.Text(), nullable=True),
        sa.Column("partial_upload", sa.Boolean(), server_default="false", nullable=False),
        sa.PrimaryKeyConstraint("ts", "batch_id", "line", name=op.f("pk_access")),
        postgresql_partition_by="RANGE (ts)",
    )
    op.create_index("ix_access_batch_id", "access", ["batch_id"], unique=False, postgresql_using="brin")
    op.create_index("ix_access_object_id_ts", "access", ["object_id", "ts"], unique=False)
    op.create_index(
        "uq_access_event_id_ts",
        "access",
        ["event_id", "ts"],
        unique=True,
        postgresql_where=sa.text("event_id is not null"),
    )
    op.create_table(
        "access_batch",
        sa.Column("id", sa.BigInteger(), nullable=False),
        sa.Column("accepted", sa.BigInteger(), nullable=False),
        sa.Column("source", sa.Text(), nullable=True),
        sa.Column("ts_min", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ts_max", sa.DateTime(timezone=True), nullable=True),
        sa.Column("received_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("rolled_up_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_access_batch")),
    )
    op.create_index(
        "ix_access_batch_open", "access_batch", ["id"], unique=False, postgresql_where=sa.text("rolled_up_at is null")
    )
    op.create_table(
        "access_hour",
        sa.Column("object_id", sa.BigInteger(), nullable=False),
        sa.Column("hour", sa.DateTime(timezone=True), nullable=False),
        sa.Column("region", sa.Text(), server_default="", nullable=False),
        sa.Column("reads", sa.BigInteger(), nullable=False),
        sa.Column("writes", sa.BigInteger(), nullable=False),
        sa.Column("bytes_read", sa.BigInteger(), nullable=False),
        sa.Column("partial_uploads", sa.BigInteger(), nullable=False),
        sa.Column("last_ts", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("object_id", "hour", "region", name=op.f("pk_access_hour")),
    )
    op.create_index("ix_access_hour_hour", "access_hour", ["hour"], unique=False, postgresql_using="brin")
    op.create_table(
        "alert",
        sa.Column("id", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), server_default="", nullable=False),
        sa.Column("severity", sa.Text(), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column(
            "data", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'::jsonb"), nullable=False
        ),
        sa.Column("state", sa.String(length=16), server_default="active", nullable=False),
        sa.Column("count", sa.BigInteger(), server_default="1", nullable=False),
        sa.Column("first_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("last_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("acked_by", sa.Text(), nullable=True),
        sa.Column("resolved_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_alert")),
    )
    op.create_index(
        "uq_alert_open", "alert", ["kind", "subject"], unique=True, postgresql_where=sa.text("state <> 'resolved'")
    )
    op.create_table(
        "audit",
        sa.Column("id", sa.BigInteger(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column(
            "data", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'::jsonb"), nullable=False
        ),
        sa.Column("request_id", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit")),
    )
    op.create_index(op.f("ix_audit_at"), "audit", ["at"], unique=False)
    op.create_table(
        "budget",
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("unit", sa.Text(), nullable=False),
        sa.Column("reserved", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("spent", sa.BigInteger(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("day", "unit", name=op.f("pk_budget")),
    )
    op.create_table(
        "counter",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("value", sa.BigInteger(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_counter")),
    )
    op.create_table(
        "idempotency_key",
        sa.Column("token_id", sa.BigInteger(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("request_sha256", sa.Text(), nullable=False),
        sa.Column("status", sa.BigInteger(), nullable=True),
        sa.Column("body", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("location", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("token_id", "key", name=op.f("pk_idempotency_key")),
    )
    op.create_index(op.f("ix_idempotency_key_created_at"), "idempotency_key", ["created_at"], unique=False)
    op.create_table(
        "job",
        sa.Column("id", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("queue", sa.Text(), nullable=False),
        sa.Column("state", sa.String(length=16), server_default="queued", nullable=False),
        sa.Column(
            "args", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'::jsonb"), nullable=False
        ),
        sa.Column(
            "progress", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'::jsonb"), nullable=False
        ),
        sa.Column("result", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("parent_id", sa.BigInteger(), nullable=True),
        sa.Column("created_by", sa.Text(), nullable=True),
        sa.Column("request_id", sa.Text(), nullable=True),
        sa.Column("rung_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("rings", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("priority", sa.BigInteger(), server_default="4", nullable=False),
        sa.Column("attempts", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("fence", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("claimed_by", sa.Text(), nullable=True),
        sa.Column("next_attempt_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("error", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("cancel_requested", sa.Boolean(), server_default="false", nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["parent_id"], ["job.id"], name=op.f("fk_job_parent_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_job")),
    )
    op.create_index("ix_job_kind_state", "job", ["kind", "state", "id"], unique=False)
    op.create_index("ix_job_lease", "job", ["lease_until"], unique=False, postgresql_where=sa.text("state = 'running'"))
    op.create_index(
        "ix_job_parent_id", "job", ["parent_id"], unique=False, postgresql_where=sa.text("parent_id is not null")
    )
    op.create_index(
        "ix_job_ready",
        "job",
        ["queue", "priority", "id"],
        unique=False,
        postgresql_where=sa.text("state in ('queued','waiting')"),
    )
    op.create_table(
        "model_version",
        sa.Column("id", sa.BigInteger(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.String(length=16), server_default="candidate", nullable=False),
        sa.Column("algorithm", sa.Text(), nullable=False),
        sa.Column("data_from", sa.DateTime(timezone=True), nullable=True),
        sa.Column("data_to", sa.DateTime(timezone=True), nullable=True),
        sa.Column("features", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column(
            "params", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'::jsonb"), nullable=False
        ),
        sa.Column(
            "metrics", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'::jsonb"), nullable=False
        ),
        sa.Column(
            "baselines", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'::jsonb"), nullable=False
        ),
        sa.Column(
            "libraries", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'::jsonb"), nullable=False
        ),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("job_id", sa.BigInteger(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("promoted_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_model_version")),
    )
    op.create_index(
        "uq_model_version_champion",
        "model_version",
        ["name"],
        unique=True,
        postgresql_where=sa.text("state = 'champion'"),
    )
    op.create_index("uq_model_version_name_version", "model_version", ["name", "version"], unique=True)
    op.create_table(
        "object",
        sa.Column("id", sa.BigInteger(), nullable=False),
        sa.Column("key", sa.Text(collation="C"), nullable=False),
        sa.Column("state", sa.String(length=16), server_default="unknown", nullable=False),
        sa.Column("version", sa.BigInteger(), server_default="1", nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=True),
        sa.Column(
            "tags", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'::jsonb"), nullable=False
        ),
        sa.Column("tier", sa.Text(), nullable=True),
        sa.Column("moved_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("first_seen_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_object")),
        sa.UniqueConstraint("key", name=op.f("uq_object_key")),
    )
    op.create_table(
        "policy",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("document", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("name", "version", name=op.f("pk_policy")),
    )
    op.create_table(
        "price_book",
        sa.Column("id", sa.BigInteger(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("as_of", sa.Date(), nullable=False),
        sa.Column("book", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_price_book")),
    )
    op.create_table(
        "queue_tick",
        sa.Column("queue", sa.Text(), nullable=False),
        sa.Column("ticked_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("worker", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("queue", name=op.f("pk_queue_tick")),
    )
    op.create_table(
        "route_decision",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("ts", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("object_id", sa.BigInteger(), nullable=False),
        sa.Column("site_id", sa.BigInteger(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("predicted_ms", sa.DOUBLE_PRECISION(), nullable=True),
        sa.Column("alternatives", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("latency_ms", sa.DOUBLE_PRECISION(), nullable=True),
        sa.Column("status", sa.BigInteger(), nullable=True),
        sa.Column("bytes", sa.BigInteger(), nullable=True),
        sa.Column("quality_score", sa.DOUBLE_PRECISION(), nullable=True),
        sa.Column("outcome_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_route_decision")),
    )
    op.create_index(op.f("ix_route_decision_ts"), "route_decision", ["ts"], unique=False)
    op.create_table(
        "schedule_slot",
        sa.Column("schedule", sa.Text(), nullable=False),
        sa.Column("slot", sa.DateTime(timezone=True), nullable=False),
        sa.Column("job_id", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("schedule", "slot", name=op.f("pk_schedule_slot")),
    )
    op.create_table(
        "token",
        sa.Column("id", sa.BigInteger(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("prefix", sa.Text(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_token")),
        sa.UniqueConstraint("sha256", name=op.f("uq_token_sha256")),
    )
    op.create_table(
        "feature",
        sa.Column("object_id", sa.BigInteger(), nullable=False),
        sa.Column("as_of", sa.DateTime(timezone=True), nullable=False),
        sa.Column("values", postgresql.ARRAY(sa.DOUBLE_PRECISION()), nullable=False),
        sa.ForeignKeyConstraint(["object_id"], ["object.id"], name=op.f("fk_feature_object_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("object_id", name=op.f("pk_feature")),
    )
    op.create_table(
        "model_artifact",
        sa.Column("model_version_id", sa.BigInteger(), nullable=False),
        sa.Column("format", sa.Text(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("hmac", sa.Text(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["model_version_id"],
            ["model_version.id"],
            name=op.f("fk_model_artifact_model_version_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("model_version_id", "format", name=op.f("pk_model_artifact")),
    )
    op.create_table(
        "plan",
        sa.Column("id", sa.BigInteger(), nullable=False),
        sa.Column("job_id", sa.BigInteger(), nullable=True),
        sa.Column("apply_job_id", sa.BigInteger(), nullable=True),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("version", sa.BigInteger(), server_default="1", nullable=False),
        sa.Column(
            "scope", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'::jsonb"), nullable=False
        ),
        sa.Column("as_of", sa.DateTime(timezone=True), nullable=False),
        sa.Column(
            "inputs", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'::jsonb"), nullable=False
        ),
        sa.Column("cost_before", sa.Numeric(precision=24, scale=12), nullable=False),
        sa.Column("cost_after", sa.Numeric(precision=24, scale=12), nullable=False),
        sa.Column(
            "baselines", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'::jsonb"), nullable=False
        ),
        sa.Column("one_off", sa.Numeric(precision=24, scale=12), nullable=False),
        sa.Column("objects", sa.BigInteger(), nullable=False),
        sa.Column("moves", sa.BigInteger(), nullable=False),
        sa.Column(
            "solver", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'::jsonb"), nullable=False
        ),
        sa.Column("infeasible", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("approved_by", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["apply_job_id"], ["job.id"], name=op.f("fk_plan_apply_job_id")),
        sa.ForeignKeyConstraint(["job_id"], ["job.id"], name=op.f("fk_plan_job_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_plan")),
    )
    op.create_table(
        "prediction",
        sa.Column("object_id", sa.BigInteger(), nullable=False),
        sa.Column("model_version_id", sa.BigInteger(), nullable=False),
        sa.Column("as_of", sa.DateTime(timezone=True), nullable=False),
        sa.Column("p_raw", sa.DOUBLE_PRECISION(), nullable=False),
        sa.Column("p_hot", sa.DOUBLE_PRECISION(), nullable=False),
        sa.Column("p_low", sa.DOUBLE_PRECISION(), nullable=False),
        sa.Column("p_high", sa.DOUBLE_PRECISION(), nullable=False),
        sa.Column("tier", sa.Text(), nullable=False),
        sa.Column("reads_30d", sa.DOUBLE_PRECISION(), nullable=False),
        sa.Column("bytes_30d", sa.DOUBLE_PRECISION(), nullable=False),
        sa.ForeignKeyConstraint(
            ["model_version_id"], ["model_version.id"], name=op.f("fk_prediction_model_version_id")
        ),
        sa.ForeignKeyConstraint(["object_id"], ["object.id"], name=op.f("fk_prediction_object_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("object_id", name=op.f("pk_prediction")),
    )
    op.create_table(
        "site",
        sa.Column("id", sa.BigInteger(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("region", sa.Text(), nullable=False),
        sa.Column("endpoint_url", sa.Text(), nullable=False),
        sa.Column("bucket", sa.Text(), nullable=False),
        sa.Column("access_key", sa.Text(), nullable=False),
        sa.Column("secret_key_encrypted", sa.LargeBinary(), nullable=False),
        sa.Column("classes", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("latency_ms", sa.DOUBLE_PRECISION(), nullable=False),
        sa.Column("state", sa.String(length=16), server_default="probing", nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column(
            "capabilities",
            postgresql.JSONB(astext_type=sa.Text()),
            server_default=sa.text("'{}'::jsonb"),
            nullable=False,
        ),
        sa.Column("probed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("encryption_declared", sa.Boolean(), server_default="false", nullable=False),
        sa.Column("allow_unguarded_delete", sa.Boolean(), server_default="false", nullable=False),
        sa.Column("price_book_id", sa.BigInteger(), nullable=True),
        sa.Column("version", sa.BigInteger(), server_default="1", nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["price_book_id"], ["price_book.id"], name=op.f("fk_site_price_book_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_site")),
        sa.UniqueConstraint("name", name=op.f("uq_site_name")),
    )
    op.create_table(
        "endpoint_sample",
        sa.Column("id", sa.BigInteger(), nullable=False),
        sa.Column("site_id", sa.BigInteger(), nullable=False),
        sa.Column("ts", sa.DateTime(timezone=True), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("ok", sa.Boolean(), nullable=False),
        sa.Column("latency_ms", sa.DOUBLE_PRECISION(), nullable=True),
        sa.Column("load", sa.DOUBLE_PRECISION(), nullable=True),
        sa.Column("in_flight", sa.BigInteger(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["site_id"], ["site.id"], name=op.f("fk_endpoint_sample_site_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_endpoint_sample")),
    )
    op.create_index("ix_endpoint_sample_site_id_ts", "endpoint_sample", ["site_id", "ts"], unique=False)
    op.create_table(
        "fault",
        sa.Column("site_id", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("probability", sa.DOUBLE_PRECISION(), nullable=False),
        sa.Column("latency_ms", sa.DOUBLE_PRECISION(), nullable=True),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["site_id"], ["site.id"], name=op.f("fk_fault_site_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("site_id", "kind", name=op.f("pk_fault")),
    )
    op.create_table(
        "move",
        sa.Column("id", sa.BigInteger(), nullable=False),
        sa.Column("plan_id", sa.BigInteger(), nullable=False),
        sa.Column("object_id", sa.BigInteger(), nullable=False),
        sa.Column("object_version", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("from_site_id", sa.BigInteger(), nullable=True),
        sa.Column("from_class", sa.Text(), nullable=True),
        sa.Column("to_site_id", sa.BigInteger(), nullable=True),
        sa.Column("to_class", sa.Text(), nullable=True),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("one_off", sa.Numeric(precision=24, scale=12), nullable=False),
        sa.Column("monthly_delta", sa.Numeric(precision=24, scale=12), nullable=False),
        sa.Column("payback_days", sa.DOUBLE_PRECISION(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column(
            "explanation",
            postgresql.JSONB(astext_type=sa.Text()),
            server_default=sa.text("'{}'::jsonb"),
            nullable=False,
        ),
        sa.ForeignKeyConstraint(["from_site_id"], ["site.id"], name=op.f("fk_move_from_site_id")),
        sa.ForeignKeyConstraint(["object_id"], ["object.id"], name=op.f("fk_move_object_id"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["plan_id"], ["plan.id"], name=op.f("fk_move_plan_id"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["to_site_id"], ["site.id"], name=op.f("fk_move_to_site_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_move")),
    )
    op.create_index(op.f("ix_move_object_id"), "move", ["object_id"], unique=False)
    op.create_index(op.f("ix_move_plan_id"), "move", ["plan_id"], unique=False)
    op.create_table(
        "replica",
        sa.Column("id", sa.BigInteger(), nullable=False),
        sa.Column("object_id", sa.BigInteger(), nullable=False),
        sa.Column("site_id", sa.BigInteger(), nullable=False),
        sa.Column("storage_class", sa.Text(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("is_origin", sa.Boolean(), server_default="false", nullable=False),
        sa.Column("object_version", sa.BigInteger(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column(
            "pin", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'::jsonb"), nullable=False
        ),
        sa.Column("sha256", sa.Text(), nullable=True),
        sa.Column("class_since", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("verified_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("seen_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("absent_scans", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("draining_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["object_id"], ["object.id"], name=op.f("fk_replica_object_id"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["site_id"], ["site.id"], name=op.f("fk_replica_site_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_replica")),
    )
    op.create_index(op.f("ix_replica_site_id"), "replica", ["site_id"], unique=False)
    op.create_index("uq_replica_object_id_site_id", "replica", ["object_id", "site_id"], unique=True)
    op.create_table(
        "migration",
        sa.Column("id", sa.BigInteger(), nullable=False),
        sa.Column("job_id", sa.BigInteger(), nullable=False),
        sa.Column("plan_id", sa.BigInteger(), nullable=True),
        sa.Column("move_id", sa.BigInteger(), nullable=True),
        sa.Column("after_id", sa.BigInteger(), nullable=True),
        sa.Column("object_id", sa.BigInteger(), nullable=False),
        sa.Column("object_version", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("state", sa.String(length=16), server_default="queued", nullable=False),
        sa.Column("from_site_id", sa.BigInteger(), nullable=True),
        sa.Column("to_site_id", sa.BigInteger(), nullable=True),
        sa.Column("to_class", sa.Text(), nullable=True),
        sa.Column("intent_id", sa.Text(), server_default=sa.text("(gen_random_uuid())::text"), nullable=False),
        sa.Column("pin", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("result_pin", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("sha256", sa.Text(), nullable=True),
        sa.Column("upload_id", sa.Text(), nullable=True),
        sa.Column("bytes_total", sa.BigInteger(), nullable=False),
        sa.Column("bytes_done", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("one_off", sa.Numeric(precision=24, scale=12), server_default="0", nullable=False),
        sa.Column("reserved_on", sa.Date(), nullable=True),
        sa.Column("retries", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("mismatches", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("part_size", sa.BigInteger(), nullable=True),
        sa.Column("verified_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("switched_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("priority", sa.BigInteger(), server_default="4", nullable=False),
        sa.Column("attempts", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("fence", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("claimed_by", sa.Text(), nullable=True),
        sa.Column("next_attempt_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("error", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("cancel_requested", sa.Boolean(), server_default="false", nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["after_id"], ["migration.id"], name=op.f("fk_migration_after_id")),
        sa.ForeignKeyConstraint(["from_site_id"], ["site.id"], name=op.f("fk_migration_from_site_id")),
        sa.ForeignKeyConstraint(["job_id"], ["job.id"], name=op.f("fk_migration_job_id")),
        sa.ForeignKeyConstraint(["move_id"], ["move.id"], name=op.f("fk_migration_move_id")),
        sa.ForeignKeyConstraint(["object_id"], ["object.id"], name=op.f("fk_migration_object_id")),
        sa.ForeignKeyConstraint(["plan_id"], ["plan.id"], name=op.f("fk_migration_plan_id")),
        sa.ForeignKeyConstraint(["to_site_id"], ["site.id"], name=op.f("fk_migration_to_site_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_migration")),
    )
    op.create_index(
        "ix_migration_after_id",
        "migration",
        ["after_id"],
        unique=False,
        postgresql_where=sa.text("after_id is not null"),
    )
    op.create_index(op.f("ix_migration_job_id"), "migration", ["job_id"], unique=False)
    op.create_index(op.f("ix_migration_plan_id"), "migration", ["plan_id"], unique=False)
    op.create_index(
        "ix_migration_ready",
        "migration",
        ["job_id", "priority", "id"],
        unique=False,
        postgresql_where=sa.text(
            "state in ('queued','waiting','copying','verified','switched','draining') and after_id is null"
        ),
    )
    op.create_index("ix_migration_state", "migration", ["state", "id"], unique=False)
    op.create_index(
        "uq_migration_active",
        "migration",
        ["object_id"],
        unique=True,
        postgresql_where=sa.text(
            "state in ('queued','waiting','copying','verified','switched','draining') and after_id is null"
        ),
    )
    op.create_table(
        "migration_part",
        sa.Column("migration_id", sa.BigInteger(), nullable=False),
        sa.Column("part_number", sa.BigInteger(), nullable=False),
        sa.Column("etag", sa.Text(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["migration_id"], ["migration.id"], name=op.f("fk_migration_part_migration_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("migration_id", "part_number", name=op.f("pk_migration_part")),
    )


def downgrade() -> None:
    op.drop_table("migration_part")
    op.drop_index(
        "uq_migration_active",
        table_name="migration",
        postgresql_where=sa.text(
            "state in ('queued','waiting','copying','verified','switched','draining') and after_id is null"
        ),
    )
    op.drop_index("ix_migration_state", table_name="migration")
    op.drop_index(
        "ix_migration_ready",
        table_name="migration",
        postgresql_where=sa.text(
            "state in ('queued','waiting','copying','verified','switched','draining') and after_id is null"
        ),
    )
    op.drop_index(op.f("ix_migration_plan_id"), table_name="migration")
    op.drop_index(op.f("ix_migration_job_id"), table_name="migration")
    op.drop_index("ix_migration_after_id", table_name="migration", postgresql_where=sa.text("after_id is not null"))
    op.drop_table("migration")
    op.drop_index("uq_replica_object_id_site_id", table_name="replica")
    op.drop_index(op.f("ix_replica_site_id"), table_name="replica")
    op.drop_table("replica")
    op.drop_index(op.f("ix_move_plan_id"), table_name="move")
    op.drop_index(op.f("ix_move_object_id"), table_name="move")
    op.drop_table("move")
    op.drop_table("fault")
    op.drop_index("ix_endpoint_sample_site_id_ts", table_name="endpoint_sample")
    op.drop_table("endpoint_sample")
    op.drop_table("site")
    op.drop_table("prediction")
    op.drop_table("plan")
    op.drop_table("model_artifact")
    op.drop_table("feature")
    op.drop_table("token")
    op.drop_table("schedule_slot")
    op.drop_index(op.f("ix_route_decision_ts"), table_name="route_decision")
    op.drop_table("route_decision")
    op.drop_table("queue_tick")
    op.drop_table("price_book")
    op.drop_table("policy")
    op.drop_table("object")
    op.drop_index("uq_model_version_name_version", table_name="model_version")
    op.drop_index(
        "uq_model_version_champion", table_name="model_version", postgresql_where=sa.text("state = 'champion'")
    )
    op.drop_table("model_version")
    op.drop_index("ix_job_ready", table_name="job", postgresql_where=sa.text("state in ('queued','waiting')"))
    op.drop_index("ix_job_parent_id", table_name="job", postgresql_where=sa.text("parent_id is not null"))
    op.drop_index("ix_job_lease", table_name="job", postgresql_where=sa.text("state = 'running'"))
    op.drop_index("ix_job_kind_state", table_name="job")
    op.drop_table("job")
    op.drop_index(op.f("ix_idempotency_key_created_at"), table_name="idempotency_key")
    op.drop_table("idempotency_key")
    op.drop_table("counter")
    op.drop_table("budget")
    op.drop_index(op.f("ix_audit_at"), table_name="audit")
    op.drop_table("audit")
    op.drop_index("uq_alert_open", table_name="alert", postgresql_where=sa.text("state <> 'resolved'"))
    op.drop_table("alert")
    op.drop_index("ix_access_hour_hour", table_name="access_hour", postgresql_using="brin")
    op.drop_table("access_hour")
    op.drop_index("ix_access_batch_open", table_name="access_batch", postgresql_where=sa.text("rolled_up_at is null"))
    op.drop_table("access_batch")
    op.drop_index("uq_access_event_id_ts", table_name="access", postgresql_where=sa.text("event_id is not null"))
    op.drop_index("ix_access_object_id_ts", table_name="access")
    op.drop_index("ix_access_batch_id", table_name="access", postgresql_using="brin")
    op.drop_table("access")
