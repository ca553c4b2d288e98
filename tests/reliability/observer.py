"""An independent observer: a process that knows what owners were acknowledged and reads it at the sites all the time.

It shares no code with what it watches: plain boto3, and one query of which replicas serve. The writer tells it before
it writes and after it was acknowledged, and goes on only when the observer has heard: so at every moment it knows
exactly which bytes must be readable.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from multiprocessing.connection import Client, Connection, Listener
from pathlib import Path
from typing import Any, Self

import psycopg2
from botocore.exceptions import BotoCoreError, ClientError

from app.devstack.processes import Child, Command
from app.devstack.seaweed import RunningSite
from app.settings import PROJECT_ROOT, environment_with, get_settings
from tests.plain import Plain

ERROR = "error: "
"""What an answer begins with that is no object: a reader would ask again."""
PAUSE_S = 0.002
"""Between two rounds, so that what is watched has the processors too."""
SERVING = """
select site.name from replica join object on object.id = object_id join site on site.id = site_id
where object.key = %s and replica.state = 'serving' and replica.object_version = object.version
"""


@dataclass
class Seen:
    """What came of watching: how often was read, and every time that it was wrong."""

    rounds: int = 0
    routed: int = 0
    violations: list[str] = field(default_factory=list)


@dataclass
class Watched:
    """A key: the SHA-256 that must be readable (None: its owner deleted it), and those that may be instead."""

    newest: str | None
    writing: set[str] = field(default_factory=set)
    ever: set[str] = field(default_factory=set)
    seen: Seen = field(default_factory=Seen)
    emptied: set[str] = field(default_factory=set)
    """Sites at which its owner deleted it."""


# -- In the observer's process ----------------------------------------------------------------------------------------


class Eye:
    """Reads the watched keys in turn. Hears the writer between two rounds, so that none is judged by old knowledge."""

    def __init__(self, sites: Sequence[RunningSite], database_url: str) -> None:
        self.sites = {site.name: Plain(site) for site in sites}
        self.keys: dict[str, Watched] = {}
        self._database_url, self._database = database_url, None

    def watch(self, key: str, sha256: str) -> None:
        self.keys[key] = Watched(sha256, ever={sha256})

    def writing(self, key: str, sha256: str) -> None:
        self.keys[key].writing.add(sha256)
        self.keys[key].ever.add(sha256)

    def written(self, key: str, sha256: str) -> None:
        self.keys[key].newest, self.keys[key].writing = sha256, set()

    def deleting(self, key: str, site: str, needed: bool) -> None:
        self.keys[key].emptied.add(site)
        if not needed:
            self.keys[key].newest = None

    def stop(self, key: str) -> dict[str, Any]:
        """A last round; what was seen."""
        self.look(key)
        return asdict(self.keys.pop(key).seen)

    def look(self, key: str) -> None:
        """One round: the newest version directly at the sites, and what a reader is led to."""
        watched = self.keys[key]
        watched.seen.rounds += 1
        if watched.newest is not None:
            # Twice in the same order: what moves while this reads was at its new site before it left the old one.
            found = []
            for plain in [*self.sites.values()] * 2:
                found.append(_read(plain, key))
                if found[-1] == watched.newest or found[-1] in watched.writing:
                    break
            else:
                watched.seen.violations.append(f"{key}: the newest version is at no site; found {found}")
        self._routed(key, watched)

    def _routed(self, key: str, watched: Watched) -> None:
        serving = self._serving(key)
        for name in serving:
            watched.seen.routed += 1
            sha256 = _read(self.sites[name], key)
            if sha256 is None and name not in watched.emptied and name in self._serving(key):
                sha256 = _read(self.sites[name], key)
                if sha256 is None and name in self._serving(key):
                    watched.seen.violations.append(f"{key}: {name} serves and has nothing")
            if sha256 is not None and sha256 not in watched.ever and not sha256.startswith(ERROR):
                watched.seen.violations.append(f"{key}: {name} serves what nobody wrote: {sha256}")

    def _serving(self, key: str) -> list[str]:
        if self._database is None:
            self._database = psycopg2.connect(self._database_url)
            self._database.autocommit = True
        with self._database.cursor() as cursor:
            cursor.execute(SERVING, (key,))
            return [name for (name,) in cursor]


def _read(plain: Plain, key: str) -> str | None:
    """SHA-256 of what stands there, or the error in its place."""
    try:
        return plain.sha256(key)
    except (BotoCoreError, ClientError) as error:
        return f"{ERROR}{error}"


def observe(connection: Connection, eye: Eye) -> None:
    """Reads and hears until the writer hangs up."""
    while True:
        for key in list(eye.keys) or [None]:
            while connection.poll(PAUSE_S if eye.keys else None):
                name, arguments = connection.recv()
                connection.send(getattr(eye, name)(*arguments))
            if key in eye.keys:
                eye.look(key)


# -- In the writer's process ------------------------------------------------------------------------------------------


class Observer:
    """A context manager: the observer's process, and what the writer has to tell it."""

    def __init__(self, folder: Path, sites: Sequence[RunningSite]) -> None:
        """It is entered by the main thread (see app.devstack.processes)."""
        self._folder, self._sites = folder, sites
        self._lock = threading.Lock()
        self.rounds = self.routed = 0

    def __enter__(self) -> Self:
        socket = str(self._folder / "observer")
        key = os.urandom(16)
        with Listener(socket, authkey=key) as listener:
            command = (sys.executable, "-m", "tests.reliability.observer", socket, key.hex())
            log = self._folder / "observer.log"
            self._child = Child(Command("observer", command, PROJECT_ROOT, log, environment_with()))
            self._connection = listener.accept()
        url = get_settings().sqlalchemy_url.replace("+psycopg2", "")
        self._connection.send(([site.as_dict() for site in self._sites], url))
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()
        self._child.kill()

    def watch(self, key: str, sha256: str) -> None:
        """From now on these bytes must be readable at every moment."""
        self._tell("watch", key, sha256)

    @contextmanager
    def writing(self, key: str, sha256: str):
        """An owner writes inside; when it ends he has been acknowledged."""
        self._tell("writing", key, sha256)
        yield
        self._tell("written", key, sha256)

    def deleting(self, key: str, site: str, *, needed: bool) -> None:
        """The owner is about to delete the object at a site. needed: its bytes must still be readable somewhere."""
        self._tell("deleting", key, site, needed)

    def stop(self, key: str) -> Seen:
        """Ends watching a key, after one more look; what was seen."""
        seen = Seen(**self._tell("stop", key))
        self.rounds, self.routed = self.rounds + seen.rounds, self.routed + seen.routed
        return seen

    def _tell(self, name: str, *arguments: object) -> Any:
        with self._lock:
            try:
                self._connection.send((name, arguments))
                return self._connection.recv()
            except (EOFError, OSError):
                self._child.await_end(5.0)  # tells the end of its log
                raise


def main() -> None:
    socket, key = sys.argv[1:]
    with Client(socket, authkey=bytes.fromhex(key)) as connection:
        sites, database_url = connection.recv()
        try:
            observe(connection, Eye([RunningSite(**site) for site in sites], database_url))
        except EOFError:
            return


if __name__ == "__main__":
    main()
