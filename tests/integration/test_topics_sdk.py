"""The SDK's producer and consumer over a served API: batches, callbacks, an API that is away, spools, dead letters."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from app.client import Client
from app.consumer import Event
from app.db import tokens
from app.db.session import session_scope
from app.domain.roles import Role
from app.errors import Conflict, Invalid, Overloaded
from app.producer import Producer
from app.settings import PROJECT_ROOT, Settings
from tests.served import Served

MANY = 2500


@pytest.fixture
def token(clean_database: str, configure: Callable[..., Settings]) -> str:
    configure(rate_limit="100000 per minute")
    with session_scope() as session:
        return tokens.create(session, "sdk", Role.OPERATOR)[1]


@pytest.fixture
def served(token: str) -> Iterator[Served]:
    made = Served(token)
    yield made
    made.end()


@pytest.fixture
def client(served: Served, token: str) -> Iterator[Client]:
    with Client(f"http://127.0.0.1:{served.port}", token) as made:
        yield made


def numbers(client: Client, topic: str) -> list[int]:
    found: list[int] = []
    offset, end = 0, 1
    while offset < end:
        page = client.events(topic, offset, 5000)
        found += [item["event"]["number"] for item in page["items"]]
        offset, end = page["next_offset"], page["end_offset"]
    return found


def wait_for(condition: Callable[[], bool], timeout_s: float = 20.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        threading.Event().wait(0.02)


def test_events_of_many_threads_are_delivered_and_each_told_of(client: Client):
    told: list[Future[Any]] = []
    with client.producer("user", batch_events=200) as producer:

        def send(begin: int) -> None:
            for number in range(begin, begin + 300):
                producer.send({"number": number, "text": "ключ 😀\x00"}, told.append)

        threads = [threading.Thread(target=send, args=(n * 300,)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert producer.flush(20)
        stats = producer.stats
        assert (stats.sent, stats.delivered, stats.waiting, stats.waiting_bytes, stats.failed) == (1200, 1200, 0, 0, 0)
        with pytest.raises(Invalid, match="cannot be sent"):
            producer.send({"number": float("nan")})
    assert sorted(numbers(client, "user")) == list(range(1200))
    assert len(told) == 1200
    assert {future.result().topic for future in told} == {"user"}
    with client.producer("file_access") as accesses:
        accesses.send({"number": 1}, told.append)
    assert "unknown field number" in str(told[-1].exception())
    assert accesses.stats.rejected == 1
    with client.producer("nothing") as nowhere:
        nowhere.send({"number": 1}, told.append)
    assert "no topic" in str(told[-1].exception())
    assert nowhere.stats.failed == 1


def fill(producer: Producer) -> int:
    """Sends until the buffer is full; how many events were taken ever."""
    for number in range(1, 100_000):
        try:
            producer.send({"number": number, "text": "x" * 60})
        except Overloaded:
            return number
    raise AssertionError("a buffer of 100 kB was never full")


def test_events_wait_while_the_api_is_away_and_are_delivered_once(client: Client, served: Served, token: str):
    producer = client.producer("user", batch_events=100, buffer_bytes=100_000, when_full="raise", retry_cap_s=0.3)
    producer.send({"number": 0})
    producer.flush(10)
    served.end()
    taken = fill(producer)
    wait_for(lambda: producer.stats.retries > 1)
    stats = producer.stats
    assert stats.away_s > 0
    assert "nothing answers" in stats.last_error
    assert (stats.sent, stats.waiting, stats.refused) == (taken, taken - 1, 1)
    assert not producer.flush(0.1)
    again = Served(token, served.port)
    try:
        assert producer.flush(60)
        assert numbers(client, "user") == list(range(taken))
        assert (producer.stats.delivered, producer.stats.away_s) == (taken, 0.0)
        assert producer.close()
    finally:
        again.end()


PROGRAM = """
import os, sys
from pathlib import Path
from app.client import Client
client = Client(sys.argv[1], "no-token")
producer = client.producer("user", batch_events=100, spool=Path(sys.argv[2]))
for number in range(250):
    producer.send({"number": number})
os.kill(os.getpid(), 9)
"""


def test_a_spool_outlives_the_process(client: Client, served: Served, tmp_path: Path):
    folder = tmp_path / "spool"
    away = "http://127.0.0.1:9"
    ended = subprocess.run([sys.executable, "-c", PROGRAM, away, str(folder)], check=False, cwd=PROJECT_ROOT)
    assert ended.returncode == -9
    (newest,) = folder.glob("*-3.ndjson")
    with newest.open("ab") as file:
        file.write(b'{"number": 25')  # cut off in the midst of a write
    with client.producer("user", spool=folder) as producer:
        assert producer.stats.waiting == 250
        with pytest.raises(Conflict, match="another producer"):
            client.producer("user", spool=folder)
        producer.send({"number": 250})
        assert producer.flush(20)
    assert numbers(client, "user") == list(range(251))
    assert list(folder.glob("*.ndjson")) == []


def test_a_group_handles_several_topics_and_sets_aside_what_fails(client: Client, served: Served):
    client.publish("user", [{"number": n} for n in range(40)])
    client.publish("errors", [{"number": n} for n in range(20)])
    handled: list[tuple[str, int]] = []
    broken = {("user", 7)}

    def handle(event: Event) -> None:
        if (event.topic, event.offset) in broken:
            raise LookupError("it cannot be found: \0 \ud800")
        handled.append((event.topic, event.value["number"]))

    first = client.consumer("readers", ["user", "errors"], handle, attempts=2, batch=15, lease_s=5)
    second = client.consumer("readers", ["user", "errors"], handle, attempts=2, lease_s=5)
    assert first.poll() == 30
    assert second.poll() == 0, "the first has both topics"
    running = threading.Thread(target=first.run)
    running.start()
    wait_for(lambda: first.stats.handled == 59)
    assert (first.stats.dead, first.stats.retries) == (1, 1)
    assert sorted(handled) == sorted([("user", n) for n in range(40) if n != 7] + [("errors", n) for n in range(20)])
    (letter,) = client.dead_letters(group="readers")
    assert (letter["offset"], letter["error"]) == (7, {"type": "LookupError", "detail": "it cannot be found: \ufffd ?"})
    broken.clear()
    client.change_dead_letter(letter["id"], "retry")
    client.publish("user", [{"number": 40}])
    wait_for(lambda: next(client.dead_letters())["state"] == "done")
    assert ("user", 7) in handled
    first.stop()
    running.join()
    client.publish("user", [{"number": 41}])
    second._asked.clear()
    wait_for(lambda: second.poll() == 1)
    assert handled[-1] == ("user", 41), "what was released is another's at once"
    (topic,) = (topic for topic in client.topics() if topic["name"] == "user")
    assert [(group["name"], group["lag"], group["skipped"]) for group in topic["groups"]] == [("readers", 0, 0)]
    second.close()
    assert client.set_position("readers", "user", 0)["lag"] == 42


def test_the_command_line_publishes_reads_and_moves_groups(client: Client, served: Served, token: str):
    environment = os.environ | {"FORETIDE_URL": f"http://127.0.0.1:{served.port}", "FORETIDE_TOKEN": token}

    def run(*words: str, given: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        argv = [sys.executable, "-P", "-m", "app", "events", *words]
        environment["PYTHONPATH"] = str(PROJECT_ROOT)
        return subprocess.run(argv, input=given, env=environment, capture_output=True, check=False)

    sent = run("publish", "user", "-", given=b'{"number": 0}\n{"number": "\\u001b[31m"}\n[]\n')
    assert (sent.returncode, sent.stdout) == (7, b"accepted 2, duplicates 0, rejected 1\n")
    assert sent.stderr.startswith(b"line 3: ")
    read = run("read", "user", "--offset", "1")
    assert read.stdout == b'1\t{"number": "\\u001b[31m"}\n'
    client.consumer("readers", ["user"], lambda event: None).poll()
    assert json.loads(run("groups", "list", "--json").stdout)[-1]["lag"] == 0
    held = run("groups", "move", "readers", "user", "0", "--yes")
    assert held.returncode == 4
    assert b"another member" in held.stderr
    assert b"user" in run("topics").stdout
    assert run("dead-letters", "list").stderr == b"No dead letter: every event was handled.\n"
    assert run("read", "nothing").returncode == 3


SAYING = """
from app.publishing import producer, publish_analytics, publish_metric
publish_analytics(user_id="ann", action="login")
publish_metric("latency", 150.5, service="api")
assert producer("analytics") is producer("analytics")
"""


def test_what_a_program_has_said_is_delivered_when_it_ends(client: Client, served: Served, token: str):
    environment = os.environ | {"FORETIDE_URL": f"http://127.0.0.1:{served.port}", "FORETIDE_TOKEN": token}
    subprocess.run([sys.executable, "-c", SAYING], cwd=PROJECT_ROOT, env=environment, check=True)
    (said,) = client.events("analytics")["items"]
    assert (said["event"]["user_id"], said["event"]["action"]) == ("ann", "login")
    (sample,) = client.events("metrics")["items"]
    assert (sample["event"]["name"], sample["event"]["value"], sample["event"]["group"]) == ("latency", 150.5, "api")
