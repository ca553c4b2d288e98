"""Events sent as NDJSON: the API holds a page of them, and what does not become a job leaves nothing."""

from __future__ import annotations

import gzip
import itertools
import random
import socket
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from app.api import events
from app.db import batch_pages, event_pages, tokens
from app.db.session import session_scope
from app.domain.roles import Role
from tests.integration.conftest import Api
from tests.learning import perform
from tests.served import Served
from workers.control import prune

NDJSON = {"Content-Type": "application/x-ndjson"}
TRAIN = "/v1/models/k:train?algorithm=kmeans&features=a"
LINE = b'{"a":%d,"more":"%s"}\n'
MANY = b"".join(LINE % (number, b"x") for number in range(events.PAGE * 2 + 1))
SENT, GROWTH = 50 * 2**20, 40 * 2**20
"""Bytes that are sent, and by how many the API may grow: a page of each request, its packed form and the modules."""


def pages(table: str) -> int:
    with session_scope() as session:
        return session.scalar(text(f"select count(*) from {table}")) or 0


def test_pages_become_the_jobs_in_the_order_they_were_sent(api: Api):
    reply = api.post(TRAIN, data=MANY, headers=NDJSON)
    assert (reply.status_code, pages("upload_page"), pages("batch_page")) == (202, 0, 3)
    read = list(event_pages.read(reply.get_json()["id"]))
    assert [len(page) for page in read] == [events.PAGE, events.PAGE, 1]
    assert b"\n".join(line for page in read for line in page) + b"\n" == MANY


def test_pages_close_by_their_bytes_too(api: Api):
    long = b"".join(LINE % (number, b"x" * 60_000) for number in range(150))
    assert api.post(TRAIN, data=long, headers=NDJSON).status_code == 202
    assert pages("batch_page") == 3


def test_uploads_that_no_job_takes_leave_nothing(api: Api):
    keyed = {**NDJSON, "Idempotency-Key": "once"}
    assert [api.post(TRAIN, data=MANY, headers=keyed).status_code for _ in range(2)] == [202, 202]
    assert api.post(TRAIN, data=MANY + b'{"a":1}', headers=keyed).status_code == 422
    packed = {**NDJSON, "Content-Encoding": "gzip"}
    assert api.post(TRAIN, data=gzip.compress(MANY)[:-20], headers=packed).status_code == 400
    assert api.post(TRAIN, data=MANY + b"x" * 70_000, headers=NDJSON).status_code == 413
    assert api.post("/v1/models/k:predict-batch", data=MANY, headers=NDJSON).status_code == 404
    assert (pages("upload_page"), pages("batch_page"), pages("job")) == (0, 3, 1)


def test_what_was_never_taken_is_pruned(api: Api):
    upload = events.Upload()
    for _ in range(events.PAGE + 1):
        upload.add(b"{}")
    assert (perform(prune).result["upload_pages"], pages("upload_page")) == (0, 1)
    with session_scope() as session:
        old = datetime.now(UTC) - batch_pages.KEEP - timedelta(minutes=1)
        session.execute(text("update upload_page set created_at = :old"), {"old": old})
    assert (perform(prune).result["upload_pages"], pages("upload_page")) == (1, 0)


@pytest.fixture
def served(clean_database: str) -> Iterator[Served]:
    with session_scope() as session:
        token = tokens.create(session, "test", Role.ADMIN)[1]
    made = Served(token)
    yield made
    made.end()


def test_a_large_upload_does_not_grow_the_api(served: Served):
    drawn = random.Random(1)
    block = b"".join(b'{"a":%d,"b":"%s"}\n' % (n, drawn.randbytes(8000).hex().encode()) for n in range(640))
    small: dict[str, Any] = {"content": b'{"a":1}\n', "headers": NDJSON}
    assert served.http.post(TRAIN, **small).status_code == 202
    before = served.worker.memory_info().rss

    length = {"Content-Length": str(SENT // len(block) * len(block))}
    sent = itertools.repeat(block, SENT // len(block))
    assert served.http.post(TRAIN, content=sent, headers=NDJSON | length).status_code == 202
    status = Path(f"/proc/{served.worker.pid}/status").read_text()
    most = int(status.partition("VmHWM:")[2].split()[0]) * 1024
    assert most - before < GROWTH, f"{before >> 20} to {most >> 20} MiB"


BLOCK = b"".join(b'{"ts":"%s","key":"k","op":"GET"}\n' % datetime.now(UTC).isoformat().encode() for _ in range(100))


@pytest.mark.parametrize(("path", "body"), [(TRAIN, MANY), ("/v1/accesses", BLOCK), ("/v1/events/user", BLOCK)])
def test_what_is_cut_off_starts_nothing(served: Served, path: str, body: bytes):
    url = served.http.base_url
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-ndjson\r\n"
    head += f"Authorization: {served.http.headers['Authorization']}\r\n"
    chunked = "Transfer-Encoding: chunked"
    cut = gzip.compress(body)[:-9]
    for framing, sent in (
        (f"Content-Length: {len(body) + 1}", body),
        (chunked, b"%x\r\n%s\r\n" % (len(body), body)),
        (f"Content-Encoding: gzip\r\n{chunked}", b"%x\r\n%s\r\n" % (len(cut), cut)),
    ):
        with socket.create_connection((url.host, url.port)) as connection:
            connection.sendall(f"{head}{framing}\r\n\r\n".encode() + sent)
            connection.shutdown(socket.SHUT_WR)
            assert b" 400 " in connection.recv(1000)[:20], framing
    assert {pages(table) for table in ("upload_page", "batch_page", "job", "access", "topic_block")} == {0}


def test_gzip_members_that_follow_each_other_are_all_read(api: Api):
    packed = {**NDJSON, "Content-Encoding": "gzip"}
    body = gzip.compress(MANY[:7]) + gzip.compress(MANY[7:])
    reply = api.post(TRAIN, data=body, headers=packed)
    assert reply.get_json()["args"]["events"] == events.PAGE * 2 + 1
    assert api.post(TRAIN, data=body + b"more", headers=packed).status_code == 400
    both = gzip.compress(BLOCK) + gzip.compress(BLOCK)
    assert api.post("/v1/accesses", data=both, headers=packed).get_json()["accepted"] == 200
    assert api.post("/v1/accesses", data=both + b"more", headers=packed).status_code == 400
