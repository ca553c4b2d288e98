"""Ingest, durable: NDJSON blocks over HTTP against one POST an event, and against bare binary COPY into Postgres."""

from __future__ import annotations

import io
import itertools
import json
import struct
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import httpx
import psycopg2

from app.settings import get_settings
from bench.result import Result, more, per_second, sent_per_second
from bench.rig import Rig

BLOCK, LARGEST = 5000, 50_000
KEYS = 1000
SECONDS = 3.0
BAR_POSTS, BAR_COPY = 100.0, 0.25
EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
_numbers = itertools.count()


def measure(rig: Rig) -> Iterator[Result]:
    """Events committed a second by one client."""
    headers = {"Authorization": f"Bearer {rig.endpoints.token}", "Content-Type": "application/x-ndjson"}
    with httpx.Client(base_url=rig.endpoints.url, headers=headers, timeout=60) as http:
        send(http, block_of(1), 1)  # its connection and the day's partition stand before anything is measured

        def rate(lines: int) -> float:
            return sent_per_second(lambda: block_of(lines), lambda block: send(http, block, lines), SECONDS)

        yield more("ingest", rate(BLOCK), rate(1), "events/s", BAR_POSTS)
        yield more("ingest-copy", rate(LARGEST), _bare_copy(), "events/s", BAR_COPY)


def send(http: httpx.Client, block: bytes, lines: int) -> int:
    """Sends a block of accesses; how many lines were taken, which must be all."""
    reply = http.post("/v1/accesses", content=block)
    reply.raise_for_status()
    accepted: int = reply.json()["accepted"]
    assert accepted == lines, reply.text
    return accepted


def block_of(lines: int) -> bytes:
    """Lines that were never sent before."""
    now = datetime.now(UTC) - timedelta(minutes=5)
    return b"\n".join(
        json.dumps(
            {
                "ts": (now + timedelta(microseconds=number)).isoformat(),
                "key": f"bench/{number % KEYS}",
                "op": "GET",
                "bytes": 4096,
                "event_id": f"bench-{number}",
            }
        ).encode()
        for number in itertools.islice(_numbers, lines)
    )


def _bare_copy() -> float:
    """Rows a second by COPY BINARY of ready-made bytes into a table without an index, each block committed."""
    block = _binary_block()
    connection = psycopg2.connect(get_settings().database_url)
    try:
        with connection, connection.cursor() as cursor:
            cursor.execute(
                "CREATE TABLE bench_copy (ts timestamptz, object_id bigint, op text, bytes bigint, event_id text)"
            )

        def copy() -> int:
            with connection, connection.cursor() as cursor:
                cursor.copy_expert("COPY bench_copy FROM STDIN BINARY", io.BytesIO(block))
            return LARGEST

        return per_second(copy, SECONDS)
    finally:
        connection.close()


def _binary_block() -> bytes:
    now = int((datetime.now(UTC) - EPOCH) / timedelta(microseconds=1))
    rows = [
        struct.pack("!h", 5) + b"".join(_field(value) for value in (now + n, n % KEYS, b"GET", 4096, b"bench-%d" % n))
        for n in range(LARGEST)
    ]
    return b"PGCOPY\n\xff\r\n\0" + struct.pack("!ii", 0, 0) + b"".join(rows) + struct.pack("!h", -1)


def _field(value: int | bytes) -> bytes:
    packed = struct.pack("!q", value) if isinstance(value, int) else value
    return struct.pack("!i", len(packed)) + packed
