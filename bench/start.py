"""From the launcher, with a warm .venv and an empty state folder, to the first finished job, against its limit."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from app.client import Client
from app.devstack.state import read_note
from app.settings import PROJECT_ROOT
from bench.result import Result, less
from bench.rig import Rig

LIMIT_S = 10.0
GIVE_UP_S = 60.0


def measure(rig: Rig) -> Iterator[Result]:
    """Seconds until a scan that was submitted as soon as the API said where it is has succeeded."""
    rig.tell("start: foretide up on an empty state folder")
    with tempfile.TemporaryDirectory() as folder:
        started = time.monotonic()
        with _launched(Path(folder)) as note, Client(str(note["url"]), str(note["token"])) as client:
            client.wait(client.scan(), timeout_s=GIVE_UP_S)
            seconds = time.monotonic() - started
    yield less("start", seconds, LIMIT_S, "s")


@contextlib.contextmanager
def _launched(state_dir: Path) -> Iterator[dict[str, object]]:
    """`./foretide up` on this folder, up to the note that says where its API is; stopped in order at the end."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("FORETIDE_")}
    environment = own | {"FORETIDE_STATE_DIR": str(state_dir), "FORETIDE_PORT": "0", "FORETIDE_FLOWER_PORT": "0"}
    command = [str(PROJECT_ROOT / "foretide"), "up"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        try:
            yield _note(state_dir, process)
        finally:
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=GIVE_UP_S)


def _note(state_dir: Path, process: subprocess.Popen[bytes]) -> dict[str, object]:
    deadline = time.monotonic() + GIVE_UP_S
    while time.monotonic() < deadline and process.poll() is None:
        if note := read_note(state_dir):
            return note
        time.sleep(0.02)
    process.kill()
    raise RuntimeError(f"foretide up did not come up: {process.communicate()[1].decode()}")
