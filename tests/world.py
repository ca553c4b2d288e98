"""Real sites with objects in them, and moves between them: what tests of migrations start from."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import select, update

from app.db import jobs, migration_plans, policies, sites
from app.db.session import session_scope
from app.db.sites import NewSite
from app.db.tables import Alert, Audit, Job, Json, Migration, Move, Object, Plan, Replica
from app.domain.states import MoveKind, PlanState, SiteState
from app.queue import TaskName
from app.s3 import multipart, probe
from app.s3 import objects as s3_objects
from app.s3.client import Bucket, connect
from app.settings import get_settings
from workers.migrations import Batch
from workers.objects import scan

_capabilities: dict[tuple[str, str], Json] = {}
"""What probes have found, by bucket and key: the same behind a proxy."""
_number = itertools.count(1)


class World:
    """Registered, probed sites; keys are put under a folder of this world's own, so that tests do not meet."""

    def __init__(self, running: Mapping[str, Any], *, readers: str = "routed", **rules: object) -> None:
        self.folder = f"w{next(_number)}-{datetime.now(UTC).timestamp():.0f}/"
        self.buckets: dict[str, Bucket] = {}
        for site in running.values():
            self.add_site(site)
        self.policy("sla", {"default": {"readers": readers, **rules}})

    def add_site(self, site: Any) -> None:
        new = NewSite(
            name=site.name, provider=site.provider, region=site.region, endpoint_url=site.endpoint_url,
            bucket=site.bucket, access_key=site.access_key, secret_key=site.secret_key,
            classes=("STANDARD", "STANDARD_IA", "GLACIER_IR"),
        )  # fmt: skip
        with session_scope() as session:
            row = sites.add(session, new)
            address = sites.address(row)
        bucket = (site.bucket, site.access_key)
        if bucket not in _capabilities:
            _capabilities[bucket] = probe.probe(connect(address), new.classes).as_json()
        self.set_site(site.name, capabilities=_capabilities[bucket], state=SiteState.READY)
        with session_scope() as session:
            found = sites.get(session, site.name)
            found.probed_at = datetime.now(UTC)
            address = sites.address(found)
        self.buckets[site.name] = connect(address)

    def set_site(self, name: str, **values: object) -> None:
        with session_scope() as session:
            sites.change(session, name, **values)

    def capabilities(self, name: str) -> Json:
        with session_scope() as session:
            return dict(sites.get(session, name).capabilities)

    def policy(self, name: str, document: Json) -> None:
        with session_scope() as session:
            policies.put(session, name, document, actor="test")

    # -- objects at the sites -----------------------------------------------------------------------------------------

    def key(self, name: str) -> str:
        return self.folder + name

    def put(self, site: str, name: str, body: bytes = b"hello", **parameters: object) -> str:
        bucket, key = self.buckets[site], self.key(name)
        bucket.client.put_object(Bucket=bucket.bucket, Key=key, Body=body, **parameters)
        return key

    def delete(self, site: str, name: str) -> None:
        bucket = self.buckets[site]
        bucket.client.delete_object(Bucket=bucket.bucket, Key=self.key(name))

    def read(self, site: str, name: str) -> bytes | None:
        bucket = self.buckets[site]
        try:
            return bucket.client.get_object(Bucket=bucket.bucket, Key=self.key(name))["Body"].read()
        except bucket.client.exceptions.NoSuchKey:
            return None

    def head(self, site: str, name: str) -> s3_objects.Head | None:
        return s3_objects.find(self.buckets[site], self.key(name))

    def sha256(self, site: str, name: str) -> str | None:
        body = self.read(site, name)
        return None if body is None else hashlib.sha256(body).hexdigest()

    def uploads(self, site: str) -> dict[str, int]:
        """Unfinished uploads of this world by id, with the number of parts that each holds."""
        bucket = self.buckets[site]
        found = bucket.client.list_multipart_uploads(Bucket=bucket.bucket).get("Uploads", [])
        mine = [(upload["Key"], upload["UploadId"]) for upload in found if upload["Key"].startswith(self.folder)]
        return {upload_id: len(multipart.sent_parts(bucket, key, upload_id) or ()) for key, upload_id in mine}

    # -- the catalogue ------------------------------------------------------------------------------------------------

    def scan(self, site: str, name: str = "", **args: object) -> Json:
        """name: what the names begin with that are looked for."""
        with session_scope() as session:
            job_id = jobs.submit(session, TaskName.SCAN, {"site": site, "prefix": self.key(name), **args}).id
        scan(job_id)
        with session_scope() as session:
            job = jobs.get(session, job_id)
            assert job.state == "succeeded", (job.state, job.error)
            return dict(job.result or {})

    def object(self, name: str) -> Object:
        with session_scope() as session:
            return session.scalars(select(Object).where(Object.key == self.key(name))).one()

    def replicas(self, name: str) -> dict[str, Replica]:
        with session_scope() as session:
            names = {row.id: row.name for row in sites.listing(session)}
            found = session.scalars(select(Replica).join(Object).where(Object.key == self.key(name)))
            return {names[row.site_id]: row for row in found}

    def states(self, name: str) -> dict[str, str]:
        return {site: str(replica.state) for site, replica in self.replicas(name).items()}

    def audit(self, action: str) -> list[Audit]:
        with session_scope() as session:
            return list(session.scalars(select(Audit).where(Audit.action == action).order_by(Audit.id)))

    def alerts(self, kind: str) -> list[Alert]:
        with session_scope() as session:
            return list(session.scalars(select(Alert).where(Alert.kind == kind, Alert.state != "resolved")))

    # -- moves --------------------------------------------------------------------------------------------------------

    def plan(self, *moves: tuple[str, MoveKind, str, str | None, str | None]) -> int:
        """Applies a plan of moves (name, kind, from site, to site, to class); returns its job's id."""
        with session_scope() as session:
            ids = {row.name: row.id for row in sites.listing(session)}
            plan = Plan(
                state=PlanState.READY, as_of=datetime.now(UTC), cost_before=1, cost_after=0, one_off=0, objects=1,
                moves=len(moves),
            )  # fmt: skip
            session.add(plan)
            session.flush()
            for name, kind, source, destination, to_class in moves:
                found = session.scalars(select(Object).where(Object.key == self.key(name))).one()
                session.add(
                    Move(
                        plan_id=plan.id, object_id=found.id, object_version=found.version, kind=kind,
                        from_site_id=ids[source], to_site_id=ids[destination] if destination else None,
                        to_class=to_class, bytes=found.size or 0, one_off=0, monthly_delta=0, reason="test",
                    )
                )  # fmt: skip
            session.flush()
            return migration_plans.apply(session, plan.id, actor="test").id

    def move(self, name: str, source: str, destination: str, to_class: str = "STANDARD") -> int:
        return self.plan((name, MoveKind.MOVE, source, destination, to_class))

    def moves(self, count: int, source: str, destination: str) -> int:
        """Puts small objects m0, m1 … and applies a plan that moves them all; its job's id."""
        names = [f"m{number}" for number in range(count)]
        for name in names:
            self.put(source, name, b"xxx")
        self.scan(source)
        return self.plan(*[(name, MoveKind.MOVE, source, destination, "STANDARD") for name in names])

    def work(self, job_id: int, **options: Any) -> None:
        """One worker's turn at the job."""
        Batch(job_id, get_settings(), **options).run()

    def due(self, job_id: int) -> None:
        """Whatever waits for a time has waited long enough."""
        long_ago = datetime.now(UTC) - timedelta(days=2)
        with session_scope() as session:
            mine = update(Migration).where(Migration.job_id == job_id)
            session.execute(mine.values(next_attempt_at=long_ago, lease_until=None))
            session.execute(mine.where(Migration.switched_at.is_not(None)).values(switched_at=long_ago))

    def finish(self, job_id: int, turns: int = 8) -> None:
        """Turns until nothing is left to do, every waiting time being over at once."""
        for _ in range(turns):
            self.work(job_id)
            self.due(job_id)
            if all(row.finished_at for row in self.rows(job_id)):
                return

    def rows(self, job_id: int) -> list[Migration]:
        with session_scope() as session:
            return list(session.scalars(select(Migration).where(Migration.job_id == job_id).order_by(Migration.id)))

    def row(self, job_id: int) -> Migration:
        (found,) = self.rows(job_id)
        return found

    def job(self, job_id: int) -> Job:
        with session_scope() as session:
            return jobs.get(session, job_id)
