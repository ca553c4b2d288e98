"""Every table. Rows are the truth of the system; messages and caches only hint at them."""

from __future__ import annotations

from app.db.tables_base import Base, Json, Leased
from app.db.tables_data import (
    Access,
    AccessBatch,
    AccessHour,
    Feature,
    ModelArtifact,
    ModelVersion,
    Object,
    Policy,
    Prediction,
    PriceBook,
    Replica,
    Site,
)
from app.db.tables_watch import Alert, Audit, Counter, EndpointSample, Fault, RouteDecision, Token
from app.db.tables_work import (
    Budget,
    IdempotencyKey,
    Job,
    Migration,
    MigrationPart,
    Move,
    Plan,
    QueueTick,
    ScheduleSlot,
)

__all__ = [
    "Access",
    "AccessBatch",
    "AccessHour",
    "Alert",
    "Audit",
    "Base",
    "Budget",
    "Counter",
    "EndpointSample",
    "Fault",
    "Feature",
    "IdempotencyKey",
    "Job",
    "Json",
    "Leased",
    "Migration",
    "MigrationPart",
    "ModelArtifact",
    "ModelVersion",
    "Move",
    "Object",
    "Plan",
    "Policy",
    "Prediction",
    "PriceBook",
    "QueueTick",
    "Replica",
    "RouteDecision",
    "ScheduleSlot",
    "Site",
    "Token",
]
