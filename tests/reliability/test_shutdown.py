"""O2: SIGTERM to the API and all workers at once, under load: not ready at once, out in time, nothing accepted lost."""

from __future__ import annotations

import signal
import threading
import time

import httpx
import pytest
from sqlalchemy import text

from app.db import tokens
from app.db.session import session_scope
from app.domain.roles import Role
from tests.reliability.fleet import Fleet, await_true, states
from tests.served import Served

NOT_READY_S, OUT_S = 1.0, 25.0


@pytest.fixture(scope="module")
def token(fleet: Fleet) -> str:
    with session_scope() as session:
        return tokens.create(session, "test", Role.ADMIN)[1]


class Submitter(threading.Thread):
    """Submits until it is refused; `accepted` are the jobs that were acknowledged."""

    def __init__(self, http: httpx.Client) -> None:
        super().__init__(daemon=True)
        self._http, self.accepted = http, list[int]()

    def run(self) -> None:
        while True:
            try:
                answer = self._http.post("/v1/plans", json={"rf": 1}, headers={"Connection": "close"})
            except httpx.TransportError:
                return
            if answer.status_code != 202:
                return
            self.accepted.append(answer.json()["id"])


def waiting_job() -> int:
    """A job that no worker takes, for a request to wait for."""
    with session_scope() as session:
        made = "insert into job (kind, queue, state, next_attempt_at) values ('plan', 'optimize', 'waiting', :later)"
        return session.scalar(text(f"{made} returning id"), {"later": "2100-01-01"})


def end(fleet: Fleet, served: Served) -> tuple[float, float]:
    """SIGTERM to all; seconds until the API was not ready, and until the last process was out."""
    asked = time.monotonic()
    served.process.send_signal(signal.SIGTERM)
    for worker in fleet.workers.values():
        worker.ask_to_stop()
    not_ready = await_true(lambda: not served.is_ready(), "the API to be not ready", 10)
    served.process.wait(OUT_S)
    await_true(lambda: not any(worker.alive for worker in fleet.workers.values()), "the workers' end", OUT_S)
    return not_ready, time.monotonic() - asked


def shut_down(fleet: Fleet, served: Served) -> tuple[float, float, list[int]]:
    """All end under load, and workers begin anew; the seconds of `end`, and the jobs that had been accepted."""
    submitters = [Submitter(served.http) for _ in range(2)]
    answers, waits_for = list[int](), waiting_job()

    def wait() -> None:
        answers.append(served.http.get(f"/v1/jobs/{waits_for}?wait=30").status_code)

    waiting = threading.Thread(target=wait)
    for thread in (*submitters, waiting):
        thread.start()
    await_true(lambda: len(submitters[0].accepted) > 20, "work under way")
    not_ready, out = end(fleet, served)
    for thread in (*submitters, waiting):
        thread.join()
    assert answers == [200], "who waits is answered"
    for number in list(fleet.workers):
        fleet.start_worker(number)
    ids = [job_id for submitter in submitters for job_id in submitter.accepted]
    await_true(lambda: states(ids) == {"succeeded": len(ids)}, "what was accepted to be done")
    return not_ready, out, ids


def test_sigterm_loses_nothing(fleet: Fleet, token: str, full: bool, figure) -> None:
    ends = []
    for _ in range(20 if full else 1):
        served = Served(token)
        try:
            ends.append(shut_down(fleet, served))
        finally:
            served.end()
    not_ready, out = (max(entry[column] for entry in ends) for column in (0, 1))
    assert not_ready <= NOT_READY_S
    assert out <= OUT_S
    with session_scope() as session:
        twice = text("select count(*) from (select 1 from plan group by job_id having count(*) > 1) doubled")
        assert session.scalar(twice) == 0
    accepted = sum(len(ids) for _, _, ids in ends)
    shown = f"not ready after {not_ready:.2f} s, out after {out:.1f} s at most; {accepted:,} accepted, all done once"
    figure("O2", shown, len(ends))
