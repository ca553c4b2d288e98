"""What goes on while the nemesis works: plans are applied, sites scanned, owners write, an observer looks."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from sqlalchemy import text

from app import queue
from app.db import jobs
from app.db.jobs import Bell
from app.db.session import session_scope
from app.domain.states import MoveKind
from app.domain.tasks import TaskName
from app.errors import DatabaseUnavailable
from tests.reliability.fleet import await_true, states
from tests.soak.owners import Owners
from tests.soak.report import Report
from tests.world import World

OPEN, PLAN = 400, 100
"""Moves kept open, and moves of a plan."""
SCAN_EVERY_S = 120.0
CLASSES = ("STANDARD", "STANDARD_IA", "GLACIER_IR")
UNFINISHED = "state in ('queued','waiting','copying','verified','switched','draining')"


class Drivers:
    """Threads that go on until `rest`."""

    def __init__(self, world: World, owners: Owners, chance: random.Random, report: Report) -> None:
        self._world, self._owners, self._chance, self._report = world, owners, chance, report
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._repeat, args=(act, pause_s), daemon=True)
            for act, pause_s in (
                (self._plan, 2.0), (owners.act, 0.2), (owners.look, 0.02), (owners.look, 0.02),
                (self._scan, SCAN_EVERY_S), (self._count, 2.0),
            )
        ]  # fmt: skip

    def start(self) -> None:
        """From now on."""
        for thread in self._threads:
            thread.start()

    def _repeat(self, act: Callable[[], None], pause_s: float) -> None:
        while not self._stop.wait(pause_s):
            with suppress(DatabaseUnavailable):  # it is killed now and then
                act()

    def _plan(self) -> None:
        busy = self._busy()
        if len(busy) < OPEN:
            chosen = self._chance.sample(self._owners.names, min(PLAN, len(self._owners.names)))
            idle = [name for name in chosen if self._world.key(name) not in busy]
            if moves := [move for name in idle if (move := self._move(name))]:
                self._ring(self._world.plan(*moves), TaskName.MIGRATE)
                self._report.count("moves", len(moves))

    def _move(self, name: str) -> tuple[str, MoveKind, str, str | None, str | None] | None:
        served = sorted(site for site, state in self._world.states(name).items() if state == "serving")
        if not served:
            return None
        source, others = self._chance.choice(served), sorted(self._owners.plain.keys() - set(served))
        kind = self._chance.choice(
            [MoveKind.CLASS] + ([MoveKind.MOVE] * 4 + [MoveKind.COPY] if others else [])
            + ([MoveKind.REMOVE] if len(served) > 1 else [])
        )  # fmt: skip
        if kind is MoveKind.REMOVE:
            return name, kind, source, None, None
        end = source if kind is MoveKind.CLASS else self._chance.choice(others)
        return name, kind, source, end, self._chance.choice(CLASSES)

    def _busy(self) -> set[str]:
        """The keys that are being moved."""
        moving = f"select key from migration join object on object.id = object_id where migration.{UNFINISHED}"
        with session_scope() as session:
            return set(session.scalars(text(moving)))

    def _count(self) -> None:
        with session_scope() as session:
            counted = session.execute(text("select state, count(*) from migration group by state"))
            self._report.states = dict(counted.all())

    def _ring(self, job_id: int, kind: TaskName) -> None:
        bell = Bell(kind, job_id, 4)
        queue.ring(bell.kind, bell.job_id, bell.priority)

    def _scan(self) -> list[int]:
        with session_scope() as session:
            made = [
                jobs.submit(session, TaskName.SCAN, {"site": name, "prefix": self._world.folder}).id
                for name in self._owners.plain
            ]
        for job_id in made:
            self._ring(job_id, TaskName.SCAN)
        return made

    def scan_all(self, timeout_s: float) -> None:
        """Scans every site, to the end."""
        made = self._scan()
        await_true(lambda: states(made).get("succeeded") == len(made), "the scans", timeout_s)

    def rest(self, timeout_s: float, say: Callable[[str], None]) -> None:
        """Stops it all, waits until every move has ended, and scans what is to be known at last."""
        self._stop.set()
        for thread in self._threads:
            thread.join()
        until, told = time.monotonic() + timeout_s, 0.0
        while (left := self._unfinished()) and time.monotonic() < until:
            if time.monotonic() - told > 10:
                told = time.monotonic()
                say(f"rest: {len(left)} moves to end")
            time.sleep(0.5)
        for row in self._unfinished():
            self._report.violation(f"a move has not ended: {row}")
        self.scan_all(timeout_s)
        self.scan_all(timeout_s)
        self._count()

    def _unfinished(self) -> list[tuple[object, ...]]:
        """Moves that have not ended, but those that say what they wait for."""
        asked = f"select id, state, reason, attempts from migration where {UNFINISHED}"
        with session_scope() as session:
            waiting = "and coalesce(reason, '') <> 'too_few_replicas' limit 1000"
            return [tuple(row) for row in session.execute(text(f"{asked} {waiting}"))]
