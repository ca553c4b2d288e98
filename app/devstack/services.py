"""Foretide's own processes over a stack: the API, a worker, beat and Flower."""

from __future__ import annotations

import http.client
import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from app.devstack.ports import HOST
from app.devstack.processes import POLL_S, Child, Command, PartFailed
from app.settings import PROJECT_ROOT, get_settings

Name = Literal["api", "worker", "beat", "flower"]
VERBS: dict[Name, str] = {"api": "serve", "worker": "worker", "beat": "beat", "flower": "flower"}
FIRST: tuple[Name, ...] = ("api", "worker")  # what a first job needs
LATER: tuple[Name, ...] = ("beat", "flower")


@dataclass(frozen=True)
class Endpoints:
    """Where Foretide's own processes answer, and to whom."""

    port: int
    flower_port: int
    flower_user: str
    flower_password: str
    token: str

    @property
    def url(self) -> str:
        """The API's."""
        return f"http://{HOST}:{self.port}"

    @property
    def flower_url(self) -> str:
        """Flower's."""
        return f"http://{HOST}:{self.flower_port}"

    def note(self) -> dict[str, str]:
        """What the command line and the SDK need to know of a running stack."""
        return {
            "url": self.url,
            "token": self.token,
            "flower_url": self.flower_url,
            "flower_user": self.flower_user,
            "flower_password": self.flower_password,
        }

    def variables(self) -> dict[str, str]:
        """The settings by which the processes take these ports and this password."""
        return {
            "FORETIDE_HOST": HOST,
            "FORETIDE_PORT": str(self.port),
            "FORETIDE_FLOWER_PORT": str(self.flower_port),
            "FORETIDE_FLOWER_USER": self.flower_user,
            "FORETIDE_FLOWER_PASSWORD": self.flower_password,
        }


@dataclass
class Service:
    """One process; `environment` holds the settings by which it finds the stack and its own port."""

    name: Name
    folder: Path
    environment: Mapping[str, str]
    child: Child | None = None

    def start(self) -> None:
        """Start the process. Raises PartFailed."""
        self.child = Child(
            Command(
                name=self.name,
                argv=(sys.executable, "-P", "-m", "app", VERBS[self.name]),
                cwd=PROJECT_ROOT,
                log=self.folder / f"{self.name}.log",
                env=self.environment,
                prepare=yield_to_others if self.name == "flower" else None,
                stop_s=get_settings().soft_shutdown_s + 5.0 if self.name == "worker" else 5.0,
            )
        )

    def ready(self) -> bool:
        """Whether it does its work. Raises PartFailed when it has ended.

        The worker and beat answer no questions: that a site's first probe ends proves the worker.
        """
        if self.child is None:
            return False
        self.child.check_alive()
        if self.name == "api":
            return answers(int(self.environment["FORETIDE_PORT"]), "/readyz")
        if self.name == "flower":
            return answers(int(self.environment["FORETIDE_FLOWER_PORT"]), "/healthcheck")
        return True


def await_all(services: Sequence[Service], timeout_s: float = 120.0) -> None:
    """Wait until all are ready. Raises PartFailed as soon as one has ended, or when time is up."""
    deadline = time.monotonic() + timeout_s
    while waiting := [service for service in services if not service.ready()]:
        if time.monotonic() > deadline:
            names = ", ".join(f"{service.name} (see {service.folder}/{service.name}.log)" for service in waiting)
            raise PartFailed(f"not ready after {timeout_s:.0f} s: {names}")
        time.sleep(POLL_S)


def yield_to_others() -> None:
    """Give other processes the machine first: Flower only looks on."""
    os.nice(10)


def answers(port: int, path: str) -> bool:
    """Whether a GET on loopback is answered with 200."""
    connection = http.client.HTTPConnection(HOST, port, timeout=2)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
