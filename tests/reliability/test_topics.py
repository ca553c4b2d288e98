"""Events are handled once: workers are killed and frozen while they consume, producers send batches twice."""

from __future__ import annotations

import json
import os
import random
import signal
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import psutil
from sqlalchemy import text

from app import queue
from app.db import topic_groups, topics
from app.db.session import session_scope
from app.domain.tasks import TaskName
from app.domain.topics import WORKERS, TopicName
from tests.reliability.fleet import Fleet, await_true

BATCH = 200
NOW = datetime.now(UTC) - timedelta(hours=1)


def publish(first: int) -> None:
    """A batch of accesses without ids, sent twice, as a producer does that got no reply."""
    lines = [
        json.dumps({"ts": (NOW + timedelta(milliseconds=n)).isoformat(), "key": f"k{n % 500}", "op": "GET"}).encode()
        for n in range(first, first + BATCH)
    ]
    for _ in range(2):
        with session_scope() as session:
            topics.publish(session, TopicName.FILE_ACCESS, lines, key=f"batch-{first}", sent=b"\n".join(lines))
            groups = topic_groups.ring(session, WORKERS, TopicName.FILE_ACCESS)
        for group in groups:
            queue.ring(TaskName.CONSUME, group)


def standing() -> tuple[str | None, int, int]:
    """Who is at it, and from where to where events wait."""
    with session_scope() as session:
        group = topic_groups.get(session, "accesses", TopicName.FILE_ACCESS)
        return group.member, group.position, topics.get(session, TopicName.FILE_ACCESS).next_offset


def hit(number: signal.Signals) -> int | None:
    """Sends a signal to whoever consumes now; its process, None where it was done before the signal came."""
    member, _, _ = standing()
    if member is None:
        return None
    pid = int(member.rpartition(":")[2])
    with suppress(ProcessLookupError):
        os.kill(pid, number)
        if standing()[0] == member:
            return pid
        if number is signal.SIGSTOP:
            os.kill(pid, signal.SIGCONT)
    return None


def test_each_access_is_stored_once_through_kills_and_freezes(fleet: Fleet, full: bool, seed: int | None, figure):
    wanted = {signal.SIGKILL: 40, signal.SIGSTOP: 10} if full else {signal.SIGKILL: 3, signal.SIGSTOP: 1}
    first = random.randrange(10**9) if seed is None else seed
    chance = random.Random(first)
    print(f"seed {first}")
    acts = [number for number, times in wanted.items() for _ in range(times)]
    chance.shuffle(acts)
    sent = 0
    for act in acts:
        found: list[int] = []

        def strike(act: signal.Signals = act, found: list[int] = found) -> bool:
            nonlocal sent
            _, position, end = standing() if sent else (None, 0, 0)
            if end - position < 20 * BATCH:
                publish(sent)
                sent += BATCH
            pid = hit(act) if sent else None
            found.extend([pid] if pid else [])
            return bool(found)

        await_true(strike, "a worker at its work", 60)
        if act is signal.SIGSTOP:
            position = standing()[1]
            await_true(lambda position=position: standing()[1] > position, "the successor of a frozen worker", 60)
            with suppress(psutil.NoSuchProcess):
                psutil.Process(found[0]).resume()
    await_true(lambda: standing()[1] == sent, "the last event", 120)
    with session_scope() as session:
        counted = "select count(*), count(distinct event_id) from access where event_id like 'file_access:%'"
        count, ids = session.execute(text(counted)).one()
        dead = session.scalar(text("select count(*) from dead_letter"))
    assert (count, ids, dead) == (sent, sent, 0)
    shown = f"each event of a topic was handled once through {len(acts)} kills and freezes, seed {first}"
    figure("I21", shown, sent, bound=False)
