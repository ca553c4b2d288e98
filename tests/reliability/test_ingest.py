"""Accesses are neither lost nor doubled while the API, workers and the broker are killed: counted from end to end."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import httpx
import msgspec
import psutil
import pytest
from sqlalchemy import text

from app.db import tokens
from app.db.session import session_scope
from app.devstack.valkey import Valkey
from app.domain.roles import Role
from tests.figures import Figures
from tests.reliability.fleet import Fleet, await_true
from tests.served import Served

EVENTS, BLOCK, KILLS = 40_000, 2_000, 3
FULL_EVENTS, FULL_BLOCK, FULL_KILLS = 1_000_000, 10_000, 30
KEYS = 200
AGAIN = 50
"""Of so many blocks one is sent twice although it was answered."""
Sums = Counter[tuple[str, str]]


class Sender(threading.Thread):
    """Sends blocks one after the other, each until it is answered, to whichever API runs."""

    def __init__(self, events: int, lines: int, served: Served, seed: int) -> None:
        super().__init__()
        self.served, self._events, self._lines = served, events, lines
        self._chance = random.Random(seed)
        self._newest = datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=1)
        self.sent = 0
        self.tries = 0
        self.expected: Sums = Counter()
        self.accepted = self.duplicates = 0
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            for first in range(0, self._events, self._lines):
                block = self._block(first)
                for _ in range(2 if self._chance.randrange(AGAIN) == 0 else 1):
                    self._send(block)
                self.sent = first + self._lines
        except BaseException as error:  # noqa: BLE001 - told by the thread that waits for this one
            self.error = error

    def _block(self, first: int) -> bytes:
        """Lines of the last hours and, one in ten, of days ago."""
        lines = []
        for number in range(first, first + self._lines):
            span = 5 * 86_400 if self._chance.random() < 0.1 else 3 * 3_600
            ts = self._newest - timedelta(seconds=self._chance.randrange(span))
            key = f"k/{self._chance.randrange(KEYS)}"
            lines.append({"ts": ts, "key": key, "op": "GET", "bytes": 1, "event_id": f"e-{number}"})
            self.expected[key, f"{ts:%Y-%m-%d %H}"] += 1
        return b"\n".join(msgspec.json.encode(line) for line in lines)

    def _send(self, block: bytes) -> None:
        headers = {"Content-Type": "application/x-ndjson"}
        while True:
            self.tries += 1
            with suppress(httpx.TransportError):
                reply = self.served.http.post("/v1/accesses", content=block, headers=headers)
                if reply.status_code == 200:
                    told = reply.json()
                    assert told["rejected"] == 0, told["errors"][:3]
                    self.accepted += told["accepted"]
                    self.duplicates += told["duplicates"]
                    return
                assert reply.status_code >= 500, reply.text
            time.sleep(0.05)  # as a client waits before it asks again


@pytest.fixture
def rolling(_fresh: Callable[[], None], broker: Valkey, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """A worker and a beat that rings the roll-up each second."""
    made = Fleet(tmp_path_factory.mktemp("rolling"), broker, rollup_every_s=1)
    made.start_worker(0)
    made.start_beat()
    yield made
    made.stop()
    _fresh()


def _kill(victim: str, fleet: Fleet, sender: Sender, token: str) -> None:
    """Kills it with what it has started, and starts it anew."""
    if victim == "worker":
        fleet.workers[0].kill()  # its group: prefork children as well
        fleet.start_worker(0)
    elif victim == "valkey":
        assert fleet.broker.child is not None
        os.kill(fleet.broker.child.pid, signal.SIGKILL)
        fleet.broker.child.kill()
        fleet.broker.start()
        fleet.broker.await_ready()
    else:
        old = sender.served
        for process in (*psutil.Process(old.process.pid).children(recursive=True), old.process):
            with suppress(psutil.NoSuchProcess):
                process.kill()
        old.process.wait()
        sender.served = Served(token)


def test_nothing_is_lost_or_doubled_while_parts_are_killed(
    rolling: Fleet, request: pytest.FixtureRequest, seed: int | None, figure: Figures
) -> None:
    full = bool(request.config.getoption("--full"))
    events, lines, kills = (FULL_EVENTS, FULL_BLOCK, FULL_KILLS) if full else (EVENTS, BLOCK, KILLS)
    seed = random.randrange(2**32) if seed is None else seed
    print(f"seed {seed}")
    with session_scope() as session:
        _, token = tokens.create(session, "ingest", Role.OPERATOR)
    sender = Sender(events, lines, Served(token), seed)
    sender.start()
    try:
        for number in range(kills):
            due = events * (number + 1) // (kills + 1)
            await_true(lambda due=due: sender.sent >= due or not sender.is_alive(), f"{due} events", 900)
            _kill(("api", "worker", "valkey")[number % 3], rolling, sender, token)
        sender.join()
        assert sender.error is None, sender.error
        await_true(_is_rolled_up, "the roll-up", 120)
    finally:
        sender.served.end()
    with session_scope() as session:
        stored = session.execute(text("select count(*), count(distinct (event_id, ts)) from access")).one()
        sums = session.execute(
            text(
                "select o.key, to_char(hour, 'YYYY-MM-DD HH24'), sum(reads), sum(bytes_read) from access_hour"
                " join object o on o.id = object_id group by 1, 2"
            )
        ).all()
    assert tuple(stored) == (events, events)
    assert {(row[0], row[1]): int(row[2]) for row in sums} == dict(sender.expected)
    assert sum(row[3] for row in sums) == events
    assert sender.accepted <= events <= sender.accepted + sender.duplicates  # an answer may be lost, no line is
    figure("I20", f"0 of {events:,} events lost or doubled in {kills} kills, {sender.tries} sendings", events)


def _is_rolled_up() -> bool:
    with session_scope() as session:
        return not session.scalar(text("select exists (select from access_batch where rolled_up_at is null)"))
