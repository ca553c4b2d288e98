"""Column types and the columns of leased work, shared by every table."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from typing import Any, ClassVar

from sqlalchemy import BigInteger, Date, DateTime, Enum, LargeBinary, MetaData, Numeric, Text, text
from sqlalchemy.dialects.postgresql import ARRAY, DOUBLE_PRECISION, JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from app.domain.states import (
    AlertState,
    DeadLetterState,
    JobState,
    MigrationState,
    ModelState,
    ObjectState,
    PlanState,
    ReplicaState,
    SiteState,
    TeeState,
)

NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
}
NOW = text("now()")
EMPTY = text("'{}'::jsonb")
Json = dict[str, Any]
MONEY = Numeric(24, 12)  # US dollars
BYTEWISE = Text(collation="C")  # keys differ by bytes, so Unicode normal forms stay distinct


class Base(DeclarativeBase):
    """Column types by annotation: times are aware, integers 64 bit, states their own strings."""

    metadata = MetaData(naming_convention=NAMING)
    type_annotation_map: ClassVar[dict[Any, Any]] = {
        int: BigInteger,
        float: DOUBLE_PRECISION,
        str: Text,
        datetime: DateTime(timezone=True),
        date: Date,
        Decimal: MONEY,
        bytes: LargeBinary,
        Json: JSONB,
        list[Json]: JSONB,
        list[str]: ARRAY(Text),
        list[float]: ARRAY(DOUBLE_PRECISION),
        **{
            kind: Enum(
                kind, native_enum=False, length=16, values_callable=lambda states: [state.value for state in states]
            )
            for kind in (
                AlertState,
                DeadLetterState,
                JobState,
                MigrationState,
                ModelState,
                ObjectState,
                PlanState,
                ReplicaState,
                SiteState,
                TeeState,
            )
        },
    }


class Leased:
    """Columns of work that a worker claims (docs/guarantees.md): `job` and `migration` have the same."""

    priority: Mapped[int] = mapped_column(server_default="4")
    attempts: Mapped[int] = mapped_column(server_default="0")
    fence: Mapped[int] = mapped_column(server_default="0")
    lease_until: Mapped[datetime | None]
    claimed_by: Mapped[str | None]
    next_attempt_at: Mapped[datetime] = mapped_column(server_default=NOW)
    reason: Mapped[str | None]
    error: Mapped[Json | None]
    cancel_requested: Mapped[bool] = mapped_column(server_default="false")
    created_at: Mapped[datetime] = mapped_column(server_default=NOW)
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
