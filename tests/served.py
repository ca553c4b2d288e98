"""`foretide serve` as a process of its own, and a client of it."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time

import httpx
import psutil

from app.devstack.ports import Ports
from app.settings import PROJECT_ROOT

MEMORY = 110 * 2**20  # the bar of bench api, after every route that is asked here


class Served:
    """A serving process, its worker process and a client of it."""

    def __init__(self, token: str, port: int | None = None) -> None:
        port = self.port = port or Ports().choose(None)
        command = [sys.executable, "-P", "-m", "app", "serve", "--port", str(port)]
        environment = os.environ | {"PYTHONPATH": str(PROJECT_ROOT)}
        self.process = subprocess.Popen(command, cwd=PROJECT_ROOT, env=environment)
        headers = {"Authorization": f"Bearer {token}"}
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=40)
        deadline = time.monotonic() + 60
        while not self.is_ready():
            assert self.process.poll() is None
            assert time.monotonic() < deadline

    def is_ready(self) -> bool:
        with contextlib.suppress(httpx.TransportError):
            return self.http.get("/readyz", headers={"Connection": "close"}).status_code == 200
        return False

    @property
    def worker(self) -> psutil.Process:
        (found,) = psutil.Process(self.process.pid).children()
        return found

    def end(self) -> None:
        """Kills it, if it still runs."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
