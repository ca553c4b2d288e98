"""O1: past a queue's limit each submission is refused with the time to come back, and the process stays as it is."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from app.db import tokens
from app.db.session import session_scope
from app.domain.roles import Role
from tests.served import MEMORY, Served

LIMIT, CLIENTS = 20, 8
GROWTH = 6 * 2**20
"""What a process that has answered thousands of requests may hold beyond one that has answered a few hundred."""


@pytest.fixture
def served(clean_database: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    monkeypatch.setenv("FORETIDE_QUEUE_LIMIT", str(LIMIT))
    monkeypatch.setenv("FORETIDE_RATE_LIMIT", "1000000 per minute")
    with session_scope() as session:
        token = tokens.create(session, "test", Role.ADMIN)[1]
    made = Served(token)
    yield made
    made.end()


def test_what_is_too_much_is_refused_and_costs_no_memory(served: Served, rounds, figure) -> None:
    def submit(_: int) -> int:
        answer = served.http.post("/v1/plans", json={"rf": 1})
        if answer.status_code == 503:
            assert answer.json()["type"] == "/problems/overloaded"
            assert int(answer.headers["Retry-After"]) > 0
        return answer.status_code

    assert [submit(0) for _ in range(LIMIT)] == [202] * LIMIT
    refused = 0
    with ThreadPoolExecutor(CLIENTS) as pool:
        assert set(pool.map(submit, range(400))) == {503}
        before = served.worker.memory_info().rss
        for _ in rounds(100, share=0.6):
            assert set(pool.map(submit, range(200))) == {503}
            refused += 200
    grown = served.worker.memory_info().rss - before
    assert grown < GROWTH
    assert served.worker.memory_info().rss <= MEMORY
    assert served.http.post("/v1/objects:scan", json={}).status_code == 202, "another queue is not full"
    shown = f"all refused with Retry-After past {LIMIT} unfinished jobs; memory grew by {grown / 2**20:.1f} MiB"
    figure("O1", shown, refused)
