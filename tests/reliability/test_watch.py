"""I16 and O3: periodic slots run once however beats die; workers that are alive yet do not consume are seen."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from app.db.session import session_scope
from app.devstack.valkey import Valkey
from app.domain.tasks import QueueName
from app.errors import ExitCode
from app.settings import PROJECT_ROOT
from tests.integration.conftest import Api
from tests.reliability.fleet import Fleet, await_true

BEATS = 3
EVERY_S = 2
"""Long enough that a job ends within its slot on a loaded machine: while one runs the next slot is left out."""
KILL_EVERY_S = 5.0


@pytest.fixture
def make_fleet(clean_database: str, broker: Valkey, tmp_path: Path) -> Iterator[Callable[..., Fleet]]:
    """Starts a worker and some beats with these settings."""
    made = []

    def make(beats: int, **settings: object) -> Fleet:
        fleet = Fleet(tmp_path, broker, **settings)
        made.append(fleet)
        fleet.start_worker(0)
        for number in range(beats):
            fleet.start_beat(number)
        fleet.await_work()
        return fleet

    yield make
    for fleet in made:
        fleet.stop()


def slots(schedule: str) -> list[tuple[float, int]]:
    """Each slot of the schedule in seconds, with how many of its jobs have been done."""
    counted = text(
        "select extract(epoch from slot)::float, count(observed.job_id) from schedule_slot"
        " left join observed on observed.job_id = schedule_slot.job_id and observed.state = 'succeeded'"
        " where schedule = :name group by slot order by slot"
    )
    with session_scope() as session:
        return [(slot, done) for slot, done in session.execute(counted, {"name": schedule})]


def test_each_slot_runs_once_while_beats_are_killed(make_fleet, full, figure):
    wanted = 60 if full else 5
    fleet = make_fleet(BEATS, rollup_every_s=EVERY_S)
    await_true(lambda: any(done for _, done in slots("roll-up")), "a first slot")
    begins, killed = time.time(), 0
    first = (int(begins) // EVERY_S + 1) * EVERY_S
    while time.time() < first + (wanted + 1) * EVERY_S:
        if time.time() - begins >= KILL_EVERY_S * (killed + 1):
            fleet.beats[killed % BEATS].kill()
            fleet.start_beat(killed % BEATS)
            killed += 1
        time.sleep(0.05)  # slots are a matter of the clock
    window = range(first, first + wanted * EVERY_S, EVERY_S)
    await_true(lambda: {slot for slot, done in slots("roll-up") if done} >= set(window), "each slot's run", 10)
    runs = {slot: done for slot, done in slots("roll-up") if slot in window}
    assert runs == dict.fromkeys(window, 1)
    figure("I16", f"slots of {EVERY_S} s ran once each, {BEATS} beats, of which {killed} were killed", wanted)


def test_workers_that_do_not_consume_are_seen(make_fleet, make_api, full, figure):
    every, late = (20, 75) if full else (1, 3)
    fleet = make_fleet(1, tick_every_s=every, tick_late_s=late)
    api: Api = make_api(tick_late_s=late)

    def check() -> int:
        asked = [sys.executable, "-m", "app", "worker", "--check"]
        return subprocess.run(asked, check=False, cwd=PROJECT_ROOT).returncode

    def degraded() -> set[str]:
        ready = api.get("/readyz", role=None)
        assert ready.status_code == 200, "requests may still be sent here"
        return {part for part in ready.json["degraded"] if part.startswith("queue")}

    await_true(lambda: not degraded(), "signs of life from every queue", 2.0 * every + 30)
    assert check() == ExitCode.OK
    stuck = fleet.workers[0].pid  # the process that consumes; its children are idle and alive
    os.kill(stuck, signal.SIGSTOP)
    try:
        seen = await_true(lambda: len(degraded()) == len(QueueName), "every queue to be late", 90)
        assert check() == ExitCode.RETRYABLE
        assert api.get("/livez", role=None).json == {"status": "ok"}
    finally:
        os.kill(stuck, signal.SIGCONT)
    await_true(lambda: not degraded(), "signs of life after it woke", 2.0 * every + 30)
    figure(
        "O3", f"a stuck worker was seen after {seen:.0f} s (ticks each {every} s, late after {late} s)", 1, bound=False
    )
