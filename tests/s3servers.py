"""S3 servers beside the stack's own sites, each a process: a second real one, and moto's for the shape of the API."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from app.devstack.ports import HOST, Ports
from app.devstack.processes import Child, Command, PartFailed
from app.devstack.seaweed import RunningSite
from app.s3.admin import try_bucket

SEAWEEDFS, RCLONE, MOTO = "seaweedfs", "rclone", "moto"
REAL = (SEAWEEDFS, RCLONE)
"""Servers that keep bytes on a disk, as their users run them."""
ALL = (*REAL, MOTO)
ACCESS_KEY, SECRET_KEY = "access", "secret"


def rclone(port: int, folder: Path) -> tuple[str, ...]:
    """`rclone serve s3`: accepts conditions, classes, checksums and tags, and ignores them; has no versions."""
    beside = str(Path(sys.executable).parent)
    program = shutil.which("rclone", path=os.pathsep.join((beside, os.environ.get("PATH", os.defpath))))
    if program is None:
        raise PartFailed("rclone is not installed; requirements-dev.txt has it")
    (folder / "data").mkdir()
    keys = f"{ACCESS_KEY},{SECRET_KEY}"
    return (program, "serve", "s3", "--config=", f"--addr={HOST}:{port}", f"--auth-key={keys}", str(folder / "data"))


def moto(port: int, folder: Path) -> tuple[str, ...]:
    """Moto's server, which holds all in memory: it speaks AWS's API and stands for nothing else."""
    return (sys.executable, "-m", "moto.server", f"--host={HOST}", f"--port={port}")


COMMANDS: dict[str, Callable[[int, Path], tuple[str, ...]]] = {RCLONE: rclone, MOTO: moto}


class Servers:
    """A context manager: starts a server when it is first asked for and stops all, the last first, at its end.

    It is used by the main thread (see app.devstack.processes).
    """

    def __init__(self, folder: Path, seaweedfs: RunningSite) -> None:
        """seaweedfs: the stack's site that stands for its kind."""
        self._folder = folder
        self._running: dict[str, RunningSite] = {SEAWEEDFS: seaweedfs}
        self._stops = ExitStack()

    def site_of(self, server: str) -> RunningSite:
        """A site at a server by the server's name. Raises PartFailed when it does not start."""
        if server not in self._running:
            self._running[server] = self._start(server)
        return self._running[server]

    def stop(self) -> None:
        """Ends what was started."""
        self._stops.close()

    def _start(self, server: str) -> RunningSite:
        folder, port = self._folder / server, Ports().choose()
        folder.mkdir()
        site = RunningSite(
            server,
            "other",
            "us-east-1",
            f"http://{HOST}:{port}",
            f"at-{server}",
            ACCESS_KEY,
            SECRET_KEY,
            latency_ms=15.0,
        )
        command = Command(server, COMMANDS[server](port, folder), folder, folder / "log", dict(os.environ))
        child = Child(command)
        self._stops.callback(child.stop)
        child.await_ready(lambda: try_bucket(site.endpoint_url, ACCESS_KEY, SECRET_KEY, site.region, site.bucket))
        return site
