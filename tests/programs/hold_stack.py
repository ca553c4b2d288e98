"""Starts a small guarded stack, says which processes and ports it has, and holds it: for tests that end it roughly.

Arguments: the state folder, `kept` or `fresh`, and the number of sites.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

import psutil

from app.devstack.guard import guarded
from app.devstack.processes import Child, Command
from app.devstack.seaweed import SITES
from app.devstack.stack import Stack
from app.devstack.state import StateFolder, prepare


def hold() -> int:
    folder = prepare(Path(sys.argv[1]))
    state = StateFolder.kept(folder) if sys.argv[2] == "kept" else StateFolder.fresh(folder)
    with Stack(state, specs=SITES[: int(sys.argv[3])]) as stack:
        # A grandchild in a session of its own, as a daemon would be: no signal to its parent's group reaches it.
        detached = ("sh", "-c", "setsid sleep 1000 & wait")
        child = Child(Command("detached", detached, state.path, state.path / "detached.log", dict(os.environ)))
        while not psutil.Process(child.pid).children():
            pass
        processes = psutil.Process().children(recursive=True)
        ports = [c.laddr.port for p in processes for c in p.net_connections() if c.status == psutil.CONN_LISTEN]
        pids = [process.pid for process in processes]
        said = {
            "inner": os.getpid(),
            "pids": pids,
            "ports": ports,
            "folder": str(state.path),
            "url": stack.database_url,
        }
        print(json.dumps(said), flush=True)
        signal.pause()
    return 0


sys.exit(guarded(hold))
