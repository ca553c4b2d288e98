"""Whatever ends a stack, no process, no port and no temporary folder is left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import psycopg2
import pytest

from app.db.server import server_version
from app.devstack import identity
from app.devstack.ports import Ports, is_free
from app.devstack.postgres import Postgres
from app.devstack.state import StateFolder
from app.settings import PROJECT_ROOT

PROGRAM = PROJECT_ROOT / "tests/programs/hold_stack.py"
END_S = 20


class Held:
    """A guarded stack in a process of its own."""

    def __init__(self, state_dir: Path, kind: str, sites: int = 0, prepare: Callable[[], None] | None = None) -> None:
        names = ("DATABASE_URL", "BROKER_URL", "SITES", "SECRET_KEY")  # this process's own stack is not meant
        environment = {name: value for name, value in os.environ.items() if name.removeprefix("FORETIDE_") not in names}
        self.process = subprocess.Popen(
            [sys.executable, str(PROGRAM), str(state_dir), kind, str(sites)],
            env=environment | {"PYTHONPATH": str(PROJECT_ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=prepare,  # noqa: PLW1509 - pytest runs no other thread here
            start_new_session=True,
        )

    def said(self) -> dict[str, Any]:
        """What it says once it holds the stack."""
        line = self.process.stdout.readline()
        assert line, self.process.stderr.read()
        return json.loads(line)

    def end(self, number: int, pid: int | None = None) -> int:
        """Send a signal, to the outer process unless a pid is given; the outer one's exit code."""
        os.kill(pid or self.process.pid, number)
        return self.process.wait(END_S)


@pytest.fixture
def hold(tmp_path: Path) -> Iterator[Callable[..., Held]]:
    """Starts held stacks in a folder whose name has a space."""
    held = []

    def start(kind: str = "fresh", **options: Any) -> Held:
        held.append(Held(tmp_path / "a state folder", kind, **options))
        return held[-1]

    yield start
    for one in held:
        if one.process.poll() is None:
            one.process.terminate()
        one.process.communicate(timeout=END_S)


def assert_gone(said: dict[str, Any]) -> None:
    pids = [said["inner"], *said["pids"]]
    processes = [psutil.Process(pid) for pid in pids if psutil.pid_exists(pid)]
    _, alive = psutil.wait_procs(processes, timeout=END_S)
    assert [process for process in alive if process.status() != psutil.STATUS_ZOMBIE] == []
    assert [port for port in said["ports"] if not is_free(port)] == []


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_ends_it_in_order(hold: Callable[..., Held], number: int, status: int):
    held = hold()
    said = held.said()
    assert len(said["ports"]) >= 2
    assert held.end(number) == status
    assert_gone(said)
    assert not Path(said["folder"]).exists()


def test_death_of_the_outer_process_ends_it(hold: Callable[..., Held]):
    held = hold(sites=1)
    said = held.said()
    assert len(said["ports"]) > 10
    held.end(signal.SIGKILL)
    assert_gone(said)
    assert not Path(said["folder"]).exists()


def test_death_of_the_inner_process_ends_it(hold: Callable[..., Held]):
    held = hold()
    said = held.said()
    assert held.end(signal.SIGKILL, said["inner"]) == 137
    assert_gone(said)


def test_the_next_start_deletes_what_a_killed_one_has_left(hold: Callable[..., Held]):
    first = hold()
    left = Path(first.said()["folder"])
    first.end(signal.SIGKILL, psutil.Process(first.process.pid).children()[0].pid)
    assert left.exists()
    hold().said()
    assert not left.exists()


def test_folders_made_at_the_same_moment_are_not_swept_away(tmp_path: Path):
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: StateFolder.fresh(tmp_path), range(100)))
    assert all(folder.path.is_dir() for folder in made)
    for folder in made:
        folder.release()
    assert list(tmp_path.iterdir()) == []


def test_a_kept_folder_survives_a_kill_and_admits_one_stack(hold: Callable[..., Held]):
    first = hold("kept")
    said = first.said()
    with psycopg2.connect(said["url"]) as connection, connection.cursor() as cursor:
        cursor.execute("CREATE TABLE kept AS SELECT 42 AS answer")
    connection.close()

    second = hold("kept")
    assert second.process.wait(END_S) != 0
    assert "another stack is running" in second.process.stderr.read()

    first.end(signal.SIGKILL)
    assert_gone(said)
    again = hold("kept").said()
    assert again["url"] == said["url"]
    with psycopg2.connect(again["url"]) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT answer FROM kept")
        assert cursor.fetchone() == (42,)
    connection.close()


def test_it_runs_as_an_ordinary_user(hold: Callable[..., Held]):
    prepare = identity.enter_user_namespace if os.geteuid() == 0 else None
    said = hold(prepare=prepare).said()
    assert server_version(said["url"])


@pytest.mark.parametrize("prepare", [identity.enter_user_namespace, identity.become_nobody])
def test_root_runs_postgres_below_a_folder_that_only_root_may_enter(tmp_path: Path, prepare: Callable[[], None]):
    if os.geteuid() != 0:
        prepare = None  # an ordinary user is one already
    folder = tmp_path / "private" / "postgres"
    folder.mkdir(parents=True)
    folder.parent.chmod(0o700)
    postgres = Postgres(folder, Ports().choose(), "secret", durable=False, prepare=prepare)
    postgres.start()
    try:
        assert postgres.await_ready().startswith("Postgres 1")
    finally:
        postgres.child.stop()
    assert_gone({"inner": postgres.child.pid, "pids": [], "ports": []})
