"""The Python SDK over the HTTP API, used by the command line: submit, poll, page, read.

    with Client() as client:
        job = client.wait(client.make_plan(prefix="logs/"))

Every method raises the classes of app.errors that the API's problems stand for. Replies are the API's own JSON.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self

from app.blocks import IngestReport, send_blocks
from app.domain.states import JOB_FINAL
from app.errors import SettingsError, WaitTimeout
from app.operations import Operations, part
from app.producer import Producer
from app.settings import get_settings
from app.tee import Tees
from app.topic_operations import TopicOperations
from app.transport import WAIT_S, Json, Retry, Transport, given, job_error

TEE_WAIT_S = 10.0
"""How long a client that is closed waits for what it writes by tee."""


class Client(Operations, TopicOperations):
    """One API and one token: those given, else FORETIDE_URL and FORETIDE_TOKEN, else those of the running stack."""

    def __init__(self, url: str | None = None, token: str | None = None, *, retry: Retry | None = None) -> None:
        """Raises SettingsError when no URL is given and no stack runs here."""
        url, token = _address(url, token)
        self._api = Transport(url, token, retry or Retry())
        self.tees = Tees(self._api)
        self._producers: list[Producer] = []

    @property
    def url(self) -> str:
        """Of the API."""
        return self._api.url

    def __enter__(self) -> Self:
        """The client itself; leaving closes its producers and its connections, after a tee has had its time."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Closes the client."""
        self.close()

    def close(self) -> None:
        """Delivers what its producers hold, and closes the connections."""
        for producer in self._producers:
            producer.close()
        self.tees.wait(TEE_WAIT_S)
        self._api.close()

    # -- Sites and objects

    def sites(self) -> Iterator[Json]:
        """Every site."""
        return self._api.pages("/sites")

    def site(self, name: str) -> Json:
        """One site with its state and what its probe found."""
        return self.site_document(name)[0]

    def site_document(self, name: str) -> tuple[Json, str]:
        """The same with its ETag."""
        return self._api.document(f"/sites/{part(name)}")

    def add_site(self, site: Json) -> Json:
        """Registers a site, given as POST /v1/sites takes it; it is used only after its probe has passed."""
        return self._api.start("/sites", site)

    def probe_site(self, name: str) -> Json:
        """Starts a probe; the job."""
        return self._api.start(f"/sites/{part(name)}:probe")

    def change_site(self, name: str, fields: Json, etag: str) -> Json:
        """Changes these fields of the site that was read."""
        return self._api.change("PATCH", f"/sites/{part(name)}", fields, etag=etag)

    def remove_site(self, name: str) -> None:
        """Forgets a site. Raises Conflict while it holds a last replica."""
        self._api.change("DELETE", f"/sites/{part(name)}")

    def prices(self, name: str) -> Json:
        """The site's price book."""
        return self.price_document(name)[0]

    def price_document(self, name: str) -> tuple[Json, str]:
        """The same with its ETag."""
        return self._api.document(f"/sites/{part(name)}/prices")

    def objects(self, **filters: Any) -> Iterator[Json]:
        """Objects by site, tier, prefix, key."""
        return self._api.pages("/objects", **filters)

    def object(self, object_id: int) -> Json:
        """One object with its replicas."""
        return self.object_document(object_id)[0]

    def object_document(self, object_id: int) -> tuple[Json, str]:
        """The same with its ETag."""
        return self._api.document(f"/objects/{object_id}")

    def scan(self, site: str | None = None, *, believe_absent: bool = False, tags: bool = False) -> Json:
        """Starts an inventory of one site or of all; the job.

        believe_absent: what two scans missed was deleted, however much it is; tags: reads each object's, too.
        """
        return self._api.start(
            "/objects:scan", given({"site": site}) | {"believe_absent": believe_absent, "tags": tags}
        )

    # -- Models and placement

    def models(self) -> Iterator[Json]:
        """Every model with its champion."""
        return self._api.pages("/models")

    def model_version(self, name: str, version: int) -> Json:
        """One version with its metrics beside its baselines."""
        return self._api.get(f"/models/{part(name)}/versions/{version}")

    def train(self, name: str = "tier") -> Json:
        """Starts training; the job."""
        return self._api.start(f"/models/{part(name)}:train")

    def predict(self, rows: list[Json], name: str = "tier") -> Json:
        """Predictions for up to 1,000 rows of features. Raises TooLarge above."""
        return self._api.change("POST", f"/models/{part(name)}:predict", {"rows": rows})

    def explanation(self, key: str, **rules: Any) -> Json:
        """Why the object is where it is: every candidate set with its cost split and what rules it out.

        rules: `rf`, `sla_ms`, `horizon_days` that differ for this answer.
        """
        return self._api.get("/explanation", key=key, **given(rules))

    def plans(self) -> Iterator[Json]:
        """Plans, newest first."""
        return self._api.pages("/plans")

    def plan(self, plan_id: int) -> tuple[Json, str]:
        """A plan and its ETag, which `apply_plan` takes."""
        return self._api.document(f"/plans/{plan_id}")

    def changes(self, plan_id: int) -> Iterator[Json]:
        """The plan's moves."""
        return self._api.pages(f"/plans/{plan_id}/changes")

    def make_plan(self, **scope: Any) -> Json:
        """Starts a plan over `prefix` or `keys` with `rf`, `sla_ms`, `horizon_days`, or `peaks`; the job."""
        return self._api.start("/plans", given(scope))

    def approve_plan(self, plan_id: int, etag: str) -> Json:
        """Approves exactly the plan that was read."""
        return self._api.change("POST", f"/plans/{plan_id}:approve", {}, etag=etag)

    def apply_plan(self, plan_id: int, etag: str) -> Json:
        """Starts the plan's migrations; the job. Raises PreconditionFailed or, naming what drifted, PlanStale."""
        return self._api.start(f"/plans/{plan_id}:apply", etag=etag)

    def cancel_plan(self, plan_id: int, etag: str) -> Json:
        """Cancels a plan; what was switched stays."""
        return self._api.change("POST", f"/plans/{plan_id}:cancel", {}, etag=etag)

    # -- Migrations, routing and rules

    def migrations(self, **filters: Any) -> Iterator[Json]:
        """Migrations by state, newest first."""
        return self._api.pages("/migrations", **filters)

    def migration(self, migration_id: int) -> Json:
        """One migration."""
        return self._api.get(f"/migrations/{migration_id}")

    def change_migration(self, migration_id: int, verb: str) -> Json:
        """verb: retry or cancel."""
        return self._api.start(f"/migrations/{migration_id}:{verb}")

    def pause_migrations(self, reason: str, job_id: int | None = None) -> Json:
        """Stops all moves, or one job's, before their next step or part."""
        return self._api.change("POST", "/migrations:pause", given({"reason": reason, "job_id": job_id}))

    def resume_migrations(self, job_id: int | None = None) -> Json:
        """Lets moves go on. Raises Conflict when they are not paused."""
        return self._api.change("POST", "/migrations:resume", given({"job_id": job_id}))

    def limits(self) -> tuple[Json, str]:
        """Rates and concurrency by site, first wave, error rate, and the document's ETag."""
        return self._api.document("/migrations/limits")

    def set_limits(self, document: Json, etag: str) -> Json:
        """Replaces the limits that were read."""
        return self._api.change("PUT", "/migrations/limits", document, etag=etag)

    def decide_route(self, key: str, region: str | None = None, sla_ms: float | None = None) -> Json:
        """Which replica a read should go to, why, and what else there was."""
        return self._api.change("POST", "/routing/decisions", given({"key": key, "region": region, "sla_ms": sla_ms}))

    def endpoints(self) -> Iterator[Json]:
        """What routing knows of each site."""
        return self._api.pages("/routing/endpoints")

    def policy(self, name: str) -> tuple[Json, str]:
        """A policy document and its ETag."""
        return self._api.document(f"/policies/{part(name)}")

    def set_policy(self, name: str, document: Json, etag: str) -> Json:
        """Replaces the policy that was read."""
        return self._api.change("PUT", f"/policies/{part(name)}", document, etag=etag)

    def mode(self) -> Json:
        """observe, approve, auto or paused, with who set it and why."""
        return self._api.get("/mode")

    def set_mode(self, mode: str, reason: str | None = None) -> Json:
        """Sets the mode."""
        return self._api.change("PUT", "/mode", given({"mode": mode, "reason": reason}))

    # -- Watching

    def alerts(self, **filters: Any) -> Iterator[Json]:
        """Alerts, newest first."""
        return self._api.pages("/alerts", **filters)

    def change_alert(self, alert_id: int, verb: str) -> Json:
        """verb: ack or resolve."""
        return self._api.change("POST", f"/alerts/{alert_id}:{verb}", {})

    def tokens(self) -> Iterator[Json]:
        """Every token without its secret."""
        return self._api.pages("/tokens")

    def create_token(self, name: str, role: str, expires_in_days: int | None = None) -> Json:
        """A new token, shown this once."""
        body = {"name": name, "role": role, "expires_in_days": expires_in_days}
        return self._api.change("POST", "/tokens", given(body))

    def revoke_token(self, token_id: int) -> None:
        """Ends a token at once."""
        self._api.change("DELETE", f"/tokens/{token_id}")

    def audit(self, **filters: Any) -> Iterator[Json]:
        """Who changed what, newest first."""
        return self._api.pages("/audit", **filters)

    def runs(self) -> Iterator[Json]:
        """Runs, newest first."""
        return self._api.pages("/runs")

    def run(self, run_id: int) -> Json:
        """A run and its steps as a graph."""
        return self._api.get(f"/runs/{run_id}")

    def start_run(self, first: str | None = None, last: str | None = None) -> Json:
        """Starts the whole cycle, or from and to a step; the job."""
        return self._api.start("/runs", given({"from": first, "to": last}))

    # -- Jobs

    def job(self, job_id: int, *, wait_s: int | None = None) -> Json:
        """The job; wait_s: seconds that the API may wait for it to change."""
        return self._api.get(f"/jobs/{job_id}", wait=wait_s)

    def jobs(self, **filters: Any) -> Iterator[Json]:
        """Jobs by kind and state, newest first."""
        return self._api.pages("/jobs", **filters)

    def change_job(self, job_id: int, verb: str) -> Json:
        """verb: cancel or retry."""
        return self._api.start(f"/jobs/{job_id}:{verb}")

    def wait(
        self, job: Json | int, *, timeout_s: float | None = None, on_change: Callable[[Json], None] | None = None
    ) -> Json:
        """The job when it has succeeded. Raises what ended it otherwise, and WaitTimeout when the time is over.

        on_change: called with the job at first and each time the API has answered anew.
        """
        job_id = job if isinstance(job, int) else int(job["id"])
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        now = self.job(job_id)
        while True:
            if on_change:
                on_change(now)
            if now["state"] in JOB_FINAL:
                break
            left = WAIT_S if deadline is None else deadline - time.monotonic()
            if left <= 0:
                raise WaitTimeout(f"job {job_id} is still {now['state']} after {timeout_s:g} s; it goes on")
            now = self.job(job_id, wait_s=max(1, min(WAIT_S, int(left))))
        if error := job_error(now):
            raise error
        return now

    # -- Accesses and reads

    def ingest(
        self,
        lines: Iterable[str | bytes | Mapping[str, Any]],
        *,
        strict: bool = False,
        on_block: Callable[[IngestReport], None] | None = None,
    ) -> IngestReport:
        """Sends access lines (NDJSON text or mappings) in blocks, each committed before the next is sent.

        strict: the API refuses a whole block for one bad line. on_block: called with the counts so far.
        """
        return send_blocks(self._api, "/accesses", lines, strict=strict, on_block=on_block)

    def add_samples(
        self,
        lines: Iterable[str | bytes | Mapping[str, Any]],
        *,
        strict: bool = False,
        on_block: Callable[[IngestReport], None] | None = None,
    ) -> IngestReport:
        """Sends samples of metrics as `ingest` sends accesses; a block that is sent again counts once."""
        key = uuid.uuid4().hex
        return send_blocks(self._api, "/metrics", lines, key=key, strict=strict, on_block=on_block)

    def ingest_block(self, body: bytes, *, strict: bool = False) -> Json:
        """Sends a block of NDJSON lines, each with an event_id, so that it may be sent again; what became of them.

        Raises Invalid for a line that is wrong where `strict` says so, and what is left when tries are over.
        """
        headers = {"Content-Type": "application/x-ndjson", "Idempotency-Key": hashlib.sha256(body).hexdigest()}
        if not self._api.is_local:  # next door, packing takes longer than sending
            body, headers["Content-Encoding"] = gzip.compress(body, compresslevel=1), "gzip"
        query = {"strict": "true"} if strict else {}
        reply: Json = self._api.send("POST", "/accesses", content=body, headers=headers, params=query).json()
        return reply

    @contextmanager
    def read(self, key: str, *, region: str | None = None, tee: bool = True) -> Iterator[Iterator[bytes]]:
        """The object's bytes from the replica that the API chose, as they arrive; the outcome is reported back.

        tee: where a plan wants the object copied, and the API offers it, the bytes are written there after the read.
        """
        started = time.monotonic()
        asked = {"key": key, "region": region, "tee": "true" if tee and self.tees.has_room else None}
        chosen = self._api.send("GET", "/read", params=given(asked))
        decision = chosen.headers.get("Foretide-Decision")
        with self._api.fetch(chosen.headers["Location"]) as answer:
            latency_ms = (time.monotonic() - started) * 1000
            kept = self.tees.begin(chosen.headers.get("Foretide-Tee"), answer)
            try:
                yield kept.pieces(answer.iter_raw()) if kept else answer.iter_raw()
            finally:
                if kept:
                    kept.end()
            outcome = {"latency_ms": latency_ms, "status": answer.status_code, "bytes": answer.num_bytes_downloaded}
        if decision:
            self._api.change("POST", f"/routing/decisions/{decision}/outcome", outcome)


def _address(url: str | None, token: str | None) -> tuple[str, str]:
    settings = get_settings()
    url, token = url or settings.url, token or settings.token
    if url:
        return url, token
    note = settings.state_dir / "current.json"
    try:
        running = json.loads(note.read_text())
    except (OSError, ValueError):
        raise SettingsError("no stack is running here; start one with ./foretide up, or set FORETIDE_URL") from None
    return str(running["url"]), token or str(running["token"])
