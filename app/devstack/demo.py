"""The demo: the whole main job on a stack of its own, every printed figure computed."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from statistics import quantiles
from typing import Any

from app.client import Client
from app.db import faults, sites
from app.db.session import session_scope
from app.devstack import demo_data, state
from app.devstack.demo_data import DemoData
from app.devstack.services import Endpoints
from app.devstack.sites import register
from app.devstack.stack import Stack
from app.domain.states import JobState, MigrationState
from app.errors import Permanent
from app.settings import get_settings

Json = dict[str, Any]
Say = Callable[[str], None]
Progress = Callable[[str, int, int], None]
READS = 150
FAULT_SHARE = 0.01
FAULT_TTL_S = 8.0
"""A move makes about a dozen requests, and five failed attempts would end it: the weather clears before that."""
FAILED = (MigrationState.FAILED, MigrationState.DEAD, MigrationState.BLOCKED, MigrationState.SKIPPED)
POLICY: Json = {"default": {"rf": 2, "sla_ms": 80, "diversity": True, "readers": "routed"}}


@dataclass
class Report:
    """What the demo prints last as JSON; the keys are part of the interface."""

    accesses: int = 0
    objects: int = 0
    model: Json = field(default_factory=dict)
    plan: Json = field(default_factory=dict)
    migrations: Json = field(default_factory=dict)
    route: Json = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    components: list[Json] = field(default_factory=list)


@dataclass
class Demo:
    """One demo: `say` prints a line, `progress` shows how far a step is."""

    trace: Path | None
    objects: int
    seed: int
    say: Say
    progress: Progress
    report: Report = field(default_factory=Report)
    plan_id: int = 0
    complete_at: float = 0.0
    """When the stored objects no longer count as being written, by time.monotonic()."""

    @contextmanager
    def step(self, number: int, name: str) -> Iterator[None]:
        """Times a step."""
        started = time.monotonic()
        self.say(f"[{number}/6] {name}")
        yield
        self.report.seconds[name] = round(time.monotonic() - started, 2)

    @contextmanager
    def running(self) -> Iterator[Report]:
        """Runs the whole job on a stack that lives as long as the context; yields what came of it."""
        with self.step(1, "environment"):
            self.say(f"      state folder {get_settings().state_dir}")
            data = demo_data.load(self.trace, objects=self.objects, seed=self.seed)
            state_dir = state.prepare(get_settings().state_dir)
        started = time.monotonic()
        with Stack(state.StateFolder.fresh(state_dir)) as stack:
            self._parts(stack, started)
            stack.adopt(**self._settings(data))
            with self.step(4, "services"):
                endpoints = stack.serve()
                self._tell(endpoints)
            state.announce(state_dir, endpoints.note())
            stack.supervise(self.say)
            try:
                with Client(endpoints.url, endpoints.token) as client:
                    self._main_job(client, endpoints, stack, data)
                yield self.report
            finally:
                state.withdraw(state_dir)

    def _settings(self, data: DemoData) -> dict[str, str]:
        """The settings that differ in a demo: a trace's own clock, and retention that reaches back to its start."""
        return {
            "FORETIDE_ENVIRONMENT": "demo",
            "FORETIDE_CHAOS": "true",
            "FORETIDE_CLOCK_OFFSET_S": str(data.clock_offset_s if self.trace else 0.0),
            "FORETIDE_RETENTION_DAYS": str(max(get_settings().retention_days, data.days + 1)),
        }

    def _parts(self, stack: Stack, started: float) -> None:
        self.report.seconds["stack"] = round(time.monotonic() - started, 2)
        self.report.components = [asdict(component) for component in stack.components]
        own = [c for c in stack.components if not c.name.startswith("site")]
        self.say("[2/6] state         " + "      ".join(f"{c.mode} {c.version}  {c.address}" for c in own))
        names = "  ".join(site.name for site in stack.sites)
        self.say(f"[3/6] sites         {names}  (real S3 servers on this machine)")

    def _tell(self, endpoints: Endpoints) -> None:
        self.say(f"      API + dashboard {endpoints.url}   docs /docs   token {endpoints.token}")
        self.say(f"      Flower {endpoints.flower_url}   {endpoints.flower_user} / {endpoints.flower_password}")

    def _main_job(self, client: Client, endpoints: Endpoints, stack: Stack, data: DemoData) -> None:
        with self.step(5, "data"):
            register(endpoints, stack.sites)
            total = demo_data.store(data, stack.sites, self.seed, lambda n, of: self.progress("store", n, of))
            self.complete_at = time.monotonic() + get_settings().growing_age_s + 1.0  # sites date by the second
            self.report.objects = len(data.stored)
            self.say(f"      {len(data.stored)} objects, {total / 2**20:.0f} MiB, {data.days} days of accesses")
            for sentence in data.assumed:
                self.say(f"      assumed: {sentence}")
        with self.step(6, "main job"):
            self._ingest(client, data)
            self._set_rules(client)
            self._run(client)
            self._tell_model(client)
            self._tell_plan(client)
            self._tell_migrations(client)
            self._read(client, data)

    def _ingest(self, client: Client, data: DemoData) -> None:
        started = time.monotonic()
        lines = (line for block in data.trace.ndjson("demo") for line in block.splitlines())
        total = len(data.trace)
        report = client.ingest(lines, on_block=lambda so_far: self.progress("ingest", so_far.lines, total))
        self.report.accesses = report.accepted
        seconds = time.monotonic() - started
        self.say(f"  ingest   {report.accepted} accesses in {seconds:.1f} s, {report.rejected} rejected")

    def _set_rules(self, client: Client) -> None:
        _, etag = client.policy("sla")
        client.set_policy("sla", POLICY, etag)
        client.set_mode("auto", "the demo applies its plan by itself")

    def _run(self, client: Client) -> None:
        """The whole cycle; copies meet a few injected 503s, as real ones do."""
        time.sleep(max(0.0, self.complete_at - time.monotonic()))
        job = client.start_run()
        injected = False

        def watch(_: Json) -> None:
            nonlocal injected
            steps = client.run(job["id"])["steps"]
            done = sum(step["state"] == JobState.SUCCEEDED for step in steps)
            now = next((step for step in steps if step["state"] != JobState.SUCCEEDED), None)
            self.progress(f"run: {now['name']}" if now else "run", done, len(steps))
            if now and now["name"] == "migrate" and now["job_id"] and not injected:
                injected = True
                inject_throttling()

        try:
            client.wait(job, on_change=watch)
        except Permanent:
            if not _plan_id(client.run(job["id"])):
                raise  # else what became of the plan is told, failures included
        with session_scope() as session:
            faults.clear(session)
        run = client.run(job["id"])
        for step in run["steps"]:
            self.report.seconds[step["name"]] = round(step["seconds"] or 0.0, 2)
        self.plan_id = _plan_id(run)

    def _tell_model(self, client: Client) -> None:
        name = "tier"
        version = next(model for model in client.models() if model["name"] == name)
        metrics = version["metrics"]
        self.report.model = {
            "name": f"{name} {version['algorithm']}-{version['version']}",
            "auc": metrics["auc"],
            "pr_auc": metrics["pr_auc"],
            "baselines": version["baselines"],
        }
        beside = ", ".join(f"{name} {_three(b['auc'])}" for name, b in version["baselines"].items())
        self.say(f"  train    {self.report.model['name']}  AUC {_three(metrics['auc'])} ({beside})")

    def _tell_plan(self, client: Client) -> None:
        plan, _ = client.plan(self.plan_id)
        before, after, hot = float(plan["cost_before"]), float(plan["cost_after"]), plan["baselines"]["all_hot"]
        self.report.plan = {
            "cost_before": before,
            "cost_after": after,
            "all_hot": float(hot),
            "moves": plan["moves"],
        }
        self.say(f"  plan     ${before:.6f} → ${after:.6f} a month, all-hot ${float(hot):.6f}; {plan['moves']} moves")

    def _tell_migrations(self, client: Client) -> None:
        moved = list(client.migrations(plan_id=self.plan_id))
        failed = [m for m in moved if m["state"] in FAILED]
        told = {
            "planned": self.report.plan["moves"],
            "verified": sum(m["verified_at"] is not None for m in moved),
            "failed": len(failed),
            "retried": sum(m["retries"] > 0 for m in moved),
        }
        self.report.migrations = told
        self.say(
            f"  migrate  {told['verified']} of {told['planned']} moved and verified,"
            f" {told['retried']} retried (injected 503), {told['failed']} failed"
        )
        for one in failed[:5]:
            self.say(
                f"           {one['key']}: {one['state']}, {one['reason']} {(one['problem'] or {}).get('detail', '')}"
            )

    def _read(self, client: Client, data: DemoData) -> None:
        """Reads objects as often as the trace reads them, each through the API's redirect."""
        started = time.monotonic()
        stored = set(data.stored)
        draw = random.Random(self.seed).choices(data.trace.object.tolist(), k=3 * READS)  # noqa: S311
        latencies = []
        for index in islice((i for i in draw if i in stored), READS):
            before = time.monotonic()
            with client.read(data.trace.keys[index]) as chunks:
                for _ in chunks:
                    pass
            latencies.append((time.monotonic() - before) * 1000)
            self.progress("route", len(latencies), READS)
        cuts = quantiles(latencies, n=20)
        self.report.route = {"p50_ms": round(cuts[9], 1), "p95_ms": round(cuts[18], 1)}
        self.report.seconds["reads"] = round(time.monotonic() - started, 2)
        self.say(f"  route    {len(latencies)} reads, p50 {cuts[9]:.0f} ms, p95 {cuts[18]:.0f} ms (SLA 80)")


def _plan_id(run: Json) -> int:
    """The plan that a run has made; 0 when it came to none."""
    return next((int(step["counts"].get("plan_id", 0)) for step in run["steps"] if step["name"] == "plan"), 0)


def inject_throttling() -> None:
    """For a while, a few requests in a hundred to each site are answered 503 SlowDown."""
    with session_scope() as session:
        for site in sites.listing(session):
            faults.inject(session, site.id, "throttle", FAULT_TTL_S, probability=FAULT_SHARE)


def _three(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
