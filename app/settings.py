"""Frozen settings: the only reader of the environment. Every setting has a default that works in the demo.

Each is set by the environment variable FORETIDE_<NAME>; docs/settings.md lists them and a test compares.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from app.errors import SettingsError

PROJECT_ROOT = Path(__file__).resolve().parent.parent


class Settings(BaseSettings):
    """What can be set, in SI units (seconds, bytes) unless the name says otherwise."""

    model_config = SettingsConfigDict(env_prefix="FORETIDE_", frozen=True, extra="ignore")

    # Where things are
    environment: Literal["demo", "development", "production"] = Field(
        "development", description="Shown on every screen; production refuses chaos."
    )
    database_url: str = Field(
        "", description="Postgres, as postgresql://…; empty: the embedded one in demo, up and test."
    )
    broker_url: str = Field(
        "", description="Redis or Valkey, as redis://…; empty: the embedded one in demo, up and test."
    )
    sites: str = Field(
        "",
        description="JSON list of sites, each as POST /v1/sites takes it; empty: embedded ones in demo, up and test.",
    )
    components: str = Field("", description="JSON list of the parts that demo or up started; shown in /readyz.")
    state_dir: Path = Field(
        PROJECT_ROOT / ".foretide", description="Embedded services' data, model files, the local token."
    )
    secret_key: str = Field(
        "",
        description="At least 32 characters; encrypts site secrets and signs model files. Several, split by commas: the"
        " first does so, all are read.",
    )
    host: str = Field("127.0.0.1", description="Address that the API listens on.")
    port: int = Field(
        8000, description="Port that the API listens on; in demo and up another is chosen when it is in use."
    )
    flower_port: int = Field(5555, description="Port of Flower, on loopback.")
    flower_user: str = Field("foretide", description="User of Flower.")
    flower_password: str = Field("", description="Password of Flower; empty: one is made and printed.")
    url: str = Field("", description="Base URL that the command line and SDK talk to; empty: the stack started here.")
    token: str = Field(
        "", description="Bearer token of the command line and SDK; empty: that of the stack started here."
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="Least level that is logged.")

    # Jobs (docs/guarantees.md)
    lease_s: float = Field(30.0, description="A claim lapses after this long without renewal.")
    lease_renew_s: float = Field(10.0, description="A working task renews its lease this often.")
    max_attempts: int = Field(5, description="After so many failed attempts work is dead and raises an alert.")
    retry_base_s: float = Field(1.0, description="Base of the full-jitter back-off kept in the row.")
    retry_cap_s: float = Field(300.0, description="Ceiling of that back-off.")
    ring_again_s: float = Field(15.0, description="A ready row is rung again after this long, doubled each time.")
    ring_again_cap_s: float = Field(300.0, description="Ceiling of the time between two rings of a row.")
    ring_timeout_s: float = Field(
        0.5, description="Time given to the broker when ringing; a dead one must not slow the API."
    )
    queue_limit: int = Field(200_000, description="Unfinished jobs above which submissions are refused with 503.")
    soft_shutdown_s: float = Field(20.0, description="Time given to running tasks at SIGTERM.")
    tick_late_s: float = Field(75.0, description="A queue whose tick is older is degraded in /readyz.")
    worker_slots: int = Field(
        2, description="Processes of a worker; the sweep rings at most four times as many messages a queue."
    )

    # Periodic passes
    rollup_every_s: float = Field(60.0, description="Roll-up of accesses.")
    predict_every_s: float = Field(300.0, description="Predictions.")
    optimize_every_s: float = Field(900.0, description="The optimizer.")
    prewarm_every_s: float = Field(3600.0, description="Copies and classes for recurring peaks.")
    train_every_s: float = Field(86_400.0, description="Training.")
    drift_every_s: float = Field(3600.0, description="Watch over drift of the models that serve.")
    sweep_every_s: float = Field(2.0, description="Expired leases and ready rows.")
    tidy_every_s: float = Field(3600.0, description="Removal of leftover copies and orphaned uploads at the sites.")
    expire_every_s: float = Field(3600.0, description="Removal of versions that moves have left in versioned buckets.")
    accrue_every_s: float = Field(86_400.0, description="What changes of class have saved, brought up to yesterday.")
    prune_every_s: float = Field(3600.0, description="Removal of what is past its retention.")
    probe_every_s: float = Field(30.0, description="Probes of the sites.")
    tick_every_s: float = Field(20.0, description="The sign of life that is rung on each queue.")

    # Models (docs/concepts.md, Life of a model)
    shadow_s: float = Field(
        172_800.0, description="A shadow is judged after it has scored beside the champion so long."
    )
    shadow_outcomes: int = Field(20_000, description="A shadow is judged sooner, once so many outcomes are known.")
    drift_psi: float = Field(0.25, description="Population stability index above which a feature has drifted.")
    drift_calibration: float = Field(
        0.05, description="Gap between predicted and happened above which probabilities have drifted."
    )
    retrain_every_s: float = Field(21_600.0, description="Drift rings a training no sooner after the last than this.")

    # Migrations
    claim_batch: int = Field(64, description="Migrations that a worker claims at once.")
    migrate_concurrency: int = Field(8, description="Migrations that a task works on at the same time.")
    growing_age_s: float = Field(
        5.0, description="A source modified more recently, by its server's clock, is still growing."
    )
    presign_ttl_s: int = Field(30, description="Lifetime of a presigned URL.")
    replica_cache_s: float = Field(5.0, description="How long a router may use a replica set that it has read.")
    grace_s: float = Field(60.0, description="Time between switch and delete; 86400 is advised outside the demo.")
    multipart_threshold: int = Field(16 * 2**20, description="Objects of this size and more are copied in parts.")
    part_size: int = Field(8 * 2**20, description="Least size of a part; raised so that 10,000 parts suffice.")
    in_place_limit: int = Field(5 * 10**9, description="Larger objects change their class in parts, as S3 demands it.")
    tee_limit: int = Field(
        0, ge=0, le=5 * 10**9, description="Readers with the SDK write copies of objects up to this size; 0: of none."
    )
    tee_lease_s: float = Field(
        60.0, gt=0, description="How long the engine leaves a copy to a reader: once for the read, once for the write."
    )
    encryption_enforced: bool = Field(False, description="First value of the security policy; then the policy rules.")
    backlog_alert: int = Field(20, description="More queued migrations than this raise the alert migration_backlog.")
    s3_connect_timeout_s: float = Field(3.0, description="Time given to connect to a site.")
    s3_read_timeout_s: float = Field(30.0, description="Time given to a site for each read.")

    # Accesses
    clock_offset_s: float = Field(
        0.0, description="Added to the clock by which accesses are judged, so that a replayed trace ends now."
    )
    retention_days: int = Field(
        90, description="Accesses older than this are refused as too_old and their partitions dropped."
    )
    rollup_days: int = Field(
        400, description="Hourly sums of accesses older than this are dropped: voters on placement need months."
    )
    future_skew_s: float = Field(300.0, description="An access further in the future than this is refused.")
    ingest_max_lines: int = Field(50_000, description="Lines of one ingest request.")
    ingest_max_bytes: int = Field(16 * 2**20, description="Bytes of one ingest request, after unpacking.")

    # Metrics
    metric_keep_s: float = Field(
        3600.0, ge=60, description="Samples older than this are refused as too_late and dropped; windows are no longer."
    )
    metric_streams: int = Field(10_000, ge=1, description="Metrics and groups of them that may have samples at a time.")
    metrics_every_s: float = Field(30.0, description="Merging of samples that came in parts, removal of old ones.")

    # Batch operations and exports (docs/pipeline.md)
    spark_master: str = Field(
        "", description="Spark's master, such as local[*] or spark://HOST:7077; empty: batch operations run on DuckDB."
    )
    batch_dir: Path | None = Field(
        None,
        description="Folder of batch operations' files while they run; one that Spark's machines share, if there are"
        " several. Empty: the system's temporary folder.",
    )
    export_site: str = Field(
        "", description="Site to which closed days of accesses are exported as Parquet; empty: none are."
    )
    export_after_days: int = Field(2, ge=1, description="A day is closed so many days after its end.")
    export_every_s: float = Field(3600.0, description="Export of closed days of accesses.")

    # Events
    events_days: int = Field(7, ge=1, description="Events of topics are kept for so long.")
    events_bytes: int = Field(2**30, ge=0, description="Bytes of a topic, packed, above which its oldest events go.")

    kafka_url: str = Field(
        "", description="Kafka's bootstrap servers, as host:port,…: events go through it; empty: straight to Postgres."
    )
    kafka_prefix: str = Field("foretide.", description="Before a topic's name in Kafka.")
    kafka_partitions: int = Field(1, ge=1, description="Partitions of topics that are made in Kafka.")

    # API
    max_body_bytes: int = Field(2**20, description="Bytes of any other request body.")
    rate_limit: str = Field(
        "600 per minute", description="Requests a token may make, in the notation of Flask-Limiter."
    )
    cors_origins: str = Field("", description="Exact origins allowed by CORS, split by commas; empty: CORS is off.")
    site_networks: str = Field(
        "", description="Networks, as CIDR split by commas, in which site endpoints may lie beside public addresses."
    )
    chaos: bool = Field(False, description="Registers the chaos routes; refused in production.")

    @field_validator("url")
    @classmethod
    def _reachable(cls, url: str) -> str:
        parts = urlsplit(url)
        if url and not (parts.scheme in ("http", "https") and parts.hostname and parts.port != 0):
            raise ValueError(f"{url} is no base URL of an API such as http://127.0.0.1:8000")
        return url

    @field_validator("secret_key")
    @classmethod
    def _named(cls, keys: str) -> str:
        if keys and not all(key.strip() for key in keys.split(",")):
            raise ValueError("a key is empty; keys are split by commas")
        return keys

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.grace_s < self.presign_ttl_s + self.replica_cache_s + 10:
            raise ValueError("FORETIDE_GRACE_S must be at least FORETIDE_PRESIGN_TTL_S + FORETIDE_REPLICA_CACHE_S + 10")
        if self.lease_renew_s * 2 > self.lease_s:
            raise ValueError("FORETIDE_LEASE_RENEW_S must be at most half of FORETIDE_LEASE_S")
        if self.environment == "production":
            if self.chaos:
                raise ValueError("FORETIDE_CHAOS and FORETIDE_ENVIRONMENT=production exclude each other")
            if min((len(key) for key in self.secret_keys), default=0) < 32:
                raise ValueError("FORETIDE_SECRET_KEY must have at least 32 characters in production, each key of it")
        return self

    @property
    def secret_keys(self) -> tuple[str, ...]:
        """The keys, the current one first; empty without one."""
        return tuple(key.strip() for key in self.secret_key.split(",")) if self.secret_key else ()

    @property
    def sqlalchemy_url(self) -> str:
        """The database URL with the driver named: the bare scheme means another driver in SQLAlchemy 2.1."""
        scheme, _, rest = self.database_url.partition("://")
        return f"postgresql+psycopg2://{rest}" if scheme in ("postgres", "postgresql") else self.database_url


@lru_cache(maxsize=1)
def get_settings() -> Settings:
    """The settings of this process. Raises SettingsError with one line that names the variable to mend."""
    try:
        return Settings()
    except ValidationError as error:
        first = error.errors()[0]
        name = "_".join(str(part) for part in first["loc"]).upper()
        where = f"FORETIDE_{name}: " if name else ""
        raise SettingsError(where + first["msg"].removeprefix("Value error, ")) from None


def java_command() -> str:
    """The Java that Spark starts: that of JAVA_HOME, else the one on the path."""
    home = os.environ.get("JAVA_HOME")
    return str(Path(home) / "bin" / "java") if home else "java"


def environment_with(**changed: str) -> dict[str, str]:
    """The environment for a child process: this process's own, with some variables changed."""
    return {**os.environ, "PYTHONPATH": str(PROJECT_ROOT), **changed}


def adopt(changed: Mapping[str, str]) -> None:
    """Change variables of this process and read the settings anew: it belongs to a stack from now on."""
    os.environ.update(changed)
    get_settings.cache_clear()
