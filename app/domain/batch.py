"""What may be asked of many events at once, over which of them, and which engine does it (step: batch)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Self

from app.domain.topics import TopicName
from app.errors import Conflict, FieldError, Invalid

MAX_GROUPS = 8
MAX_LINES = 1_000_000
"""A result has no more lines: a join may have as many as the product of its streams."""
MAX_WINDOW_MINUTES = 366 * 24 * 60
LEAST_JAVA = 17
LEAST_PYSPARK, NEXT_PYSPARK = (4, 1), (5,)
PANDAS_OF_SPARK = 3
INSTALL = ".venv/bin/python -m pip install 'pyspark>=4.1,<5' 'pandas<3'"


class Operation(StrEnum):
    """What can be done; docs/pipeline.md says what each means."""

    PROCESS_EVENTS = "process_events"
    TIME_WINDOW_METRICS = "time_window_metrics"
    JOIN_STREAMS = "join_streams"
    DETECT_ANOMALIES = "detect_anomalies"
    EXTRACT_FEATURES = "extract_features"


class EngineName(StrEnum):
    """What runs the operations."""

    DUCKDB = "duckdb"
    SPARK = "spark"


ACCESS_FIELDS = ("key", "op", "site", "bytes", "status", "region", "client", "event_id", "partial_upload")
"""Fields of an access that streams of accesses have, beside its time."""
ACCESS_NUMBERS = ("bytes", "status")
_O = Operation
TAKES: dict[str, tuple[Operation, ...]] = {
    "time": (_O.PROCESS_EVENTS, _O.TIME_WINDOW_METRICS, _O.JOIN_STREAMS, _O.DETECT_ANOMALIES),
    "value": (_O.PROCESS_EVENTS, _O.TIME_WINDOW_METRICS, _O.DETECT_ANOMALIES),
    "group_by": (_O.PROCESS_EVENTS, _O.TIME_WINDOW_METRICS, _O.DETECT_ANOMALIES),
    "key": (_O.JOIN_STREAMS,),
    "within_seconds": (_O.JOIN_STREAMS,),
    "window_minutes": (_O.TIME_WINDOW_METRICS,),
    "threshold": (_O.DETECT_ANOMALIES,),
}
"""Which operations read a parameter; given to another it is an error."""


@dataclass(frozen=True)
class Recipe:
    """An operation with its parameters; None is that of the kind of stream (`for_events`, `for_accesses`)."""

    operation: Operation
    engine: EngineName | None = None
    time: str | None = None
    value: str | None = None
    key: str | None = None
    group_by: tuple[str, ...] | None = None
    window_minutes: int = 60
    threshold: float = 2.0
    within_seconds: float | None = None

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Self:
        """From what was given, or `as_json` stored; what is None is left at its default. Raises Invalid."""
        known = {name: value for name, value in given.items() if value is not None}
        operation = Operation(known.pop("operation"))
        wrong = [name for name in known if operation not in TAKES.get(name, (operation,))]
        if wrong:
            raise Invalid(errors=tuple(FieldError(f"/{name}", f"{operation} has no use for it") for name in wrong))
        engine = known.pop("engine", None)
        if "group_by" in known:
            known["group_by"] = tuple(known["group_by"])
        return cls(operation, EngineName(engine) if engine else None, **known)

    def as_json(self) -> dict[str, Any]:
        """As it stands in a job's arguments: what differs from the defaults of its operation."""
        return {
            name: value
            for name, value in asdict(self).items()
            if value is not None and self.operation in TAKES.get(name, (self.operation,))
        }

    def groups(self, default: tuple[str, ...]) -> tuple[str, ...]:
        """The fields by which events are told apart; default: those of `process_events`."""
        if self.group_by is not None:
            return self.group_by
        return default if self.operation is Operation.PROCESS_EVENTS else ()

    def check_for_accesses(self) -> None:
        """Raises Invalid where it names what is no field of an access."""
        texts = [("group_by", name) for name in self.group_by or ()] + ([("key", self.key)] if self.key else [])
        wrong = [FieldError(f"/{of}", f"an access has no {name}") for of, name in texts if name not in ACCESS_FIELDS]
        if self.value not in (None, *ACCESS_NUMBERS):
            wrong.append(FieldError("/value", f"of an access it is {' or '.join(ACCESS_NUMBERS)}"))
        if self.time is not None:
            wrong.append(FieldError("/time", "an access has one time: leave it out"))
        if wrong:
            raise Invalid(errors=tuple(wrong))


@dataclass(frozen=True)
class Span:
    """Accesses in [since, until), of keys that begin with the prefix; aware times."""

    since: datetime
    until: datetime
    prefix: str = ""

    @classmethod
    def of(cls, stored: Mapping[str, str]) -> Self:
        """From what `as_json` stored."""
        since, until = (datetime.fromisoformat(stored[name]) for name in ("since", "until"))
        return cls(since, until, stored.get("prefix", ""))

    def as_json(self) -> dict[str, str]:
        """As it stands in a job's arguments."""
        return {"since": self.since.isoformat(), "until": self.until.isoformat(), "prefix": self.prefix}


@dataclass(frozen=True)
class Received:
    """Events of a topic that came in [since, until), as far as they are given; aware times."""

    topic: TopicName
    since: datetime | None = None
    until: datetime | None = None

    @classmethod
    def of(cls, stored: Mapping[str, str | None]) -> Self:
        """From what `as_json` stored."""
        since, until = (datetime.fromisoformat(at) if (at := stored.get(name)) else None for name in ("since", "until"))
        return cls(TopicName(stored["name"] or ""), since, until)

    def as_json(self) -> dict[str, str | None]:
        """As it stands in a job's arguments."""
        times = {name: at.isoformat() if at else None for name, at in (("since", self.since), ("until", self.until))}
        return {"name": self.topic.value, **times}


@dataclass(frozen=True)
class Spark:
    """What there is of Spark on this machine."""

    master: str
    """Of the settings; empty: Spark is not wanted."""
    pyspark: str | None = None
    """Its version, as those of the others; None: it is not here."""
    pandas: str | None = None
    java: int | None = None
    """The major version that it would start."""
    has_shared_folder: bool = False

    @property
    def problem(self) -> str | None:
        """Why it cannot run; None when it can."""
        if not self.master:
            return "FORETIDE_SPARK_MASTER is not set"
        if self.pyspark is None:
            return f"PySpark is not installed: {INSTALL}"
        if not LEAST_PYSPARK <= _numbers(self.pyspark) < NEXT_PYSPARK:
            return f"PySpark {self.pyspark} is not of the versions that are known to work: {INSTALL}"
        if self.pandas is not None and _numbers(self.pandas) >= (PANDAS_OF_SPARK,):
            return f"pandas {self.pandas} is too new for PySpark: {INSTALL}"
        if self.java is None:
            return f"there is no Java; Spark needs Java {LEAST_JAVA} or later on the path or in JAVA_HOME"
        if self.java < LEAST_JAVA:
            return f"Java {self.java} is too old; Spark needs Java {LEAST_JAVA} or later"
        if not self.master.startswith("local") and not self.has_shared_folder:
            return "FORETIDE_BATCH_DIR is not set: a master on other machines needs a folder that they share with this"
        return None

    @property
    def is_local(self) -> bool:
        """Whether it runs on this machine alone."""
        return self.master.startswith("local")


@dataclass(frozen=True)
class Choice:
    """Which engine runs, and why."""

    engine: EngineName
    why: str
    falls_back: bool = False
    """Spark was wanted by the settings and cannot run."""


def choose(wanted: EngineName | None, spark: Spark) -> Choice:
    """The engine for a job that wants this one, or leaves it to the settings. Raises Conflict for what cannot run."""
    problem = spark.problem
    if wanted is EngineName.SPARK:
        if problem:
            raise Conflict(f"Spark cannot run here: {problem}", reason="spark_cannot_run")
        return Choice(EngineName.SPARK, "it was asked for")
    if wanted is EngineName.DUCKDB:
        return Choice(EngineName.DUCKDB, "it was asked for")
    if not spark.master:
        return Choice(EngineName.DUCKDB, f"{problem}")
    if problem:
        return Choice(EngineName.DUCKDB, f"FORETIDE_SPARK_MASTER is set, but Spark cannot run here: {problem}", True)
    return Choice(EngineName.SPARK, f"FORETIDE_SPARK_MASTER is {spark.master}")


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) if part.isdecimal() else 0 for part in version.split(".")[:2])
