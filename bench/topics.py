"""Topics: batches over HTTP against one POST an event; accesses by way of a topic against POST /v1/accesses."""

from __future__ import annotations

import time
from collections.abc import Iterator

import httpx

from app.client import Client
from bench.ingest import block_of, send
from bench.result import Result, more, sent_per_second
from bench.rig import Rig

BATCH = 5000
SECONDS = 3.0
EVENTS = 100_000
BAR_POSTS, BAR_WAY = 100.0, 0.5


def measure(rig: Rig) -> Iterator[Result]:
    """Events committed a second by one client; accesses stored a second, from the first publish on."""
    headers = {"Authorization": f"Bearer {rig.endpoints.token}", "Content-Type": "application/x-ndjson"}
    with httpx.Client(base_url=rig.endpoints.url, headers=headers, timeout=60) as http, rig.client() as client:
        send(http, block_of(1), 1)
        _publish(http, block_of(1), 1)

        def rate(lines: int) -> float:
            return sent_per_second(lambda: block_of(lines), lambda block: _publish(http, block, lines), SECONDS)

        yield more("topics-publish", rate(BATCH), rate(1), "events/s", BAR_POSTS)
        direct = sent_per_second(lambda: block_of(BATCH), lambda block: send(http, block, BATCH), SECONDS)
        yield more("topics-consume", _through(client, http), direct, "events/s", BAR_WAY)


def _publish(http: httpx.Client, block: bytes, lines: int, topic: str = "user") -> int:
    reply = http.post(f"/v1/events/{topic}", content=block)
    reply.raise_for_status()
    accepted: int = reply.json()["accepted"]
    assert accepted == lines, reply.text
    return accepted


def _through(client: Client, http: httpx.Client) -> float:
    blocks = [block_of(BATCH) for _ in range(EVENTS // BATCH)]
    began = time.perf_counter()
    for block in blocks:
        _publish(http, block, BATCH, "file_access")
    while _lag(client):
        time.sleep(0.05)
    return EVENTS / (time.perf_counter() - began)


def _lag(client: Client) -> int:
    groups = (group for topic in client.topics() for group in topic["groups"] if group["name"] == "accesses")
    return sum(group["lag"] for group in groups)
