"""The state folder: who holds it, its secrets, and the note by which the command line finds the stack."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from app.errors import Conflict, SettingsError
from app.settings import get_settings

CURRENT = "current.json"
LOCK = "lock"
TEMPORARY = "run-"
SHARED = ("database_url", "broker_url", "secret_key", "site_networks")  # what a process needs to work on the stack


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner may read; readers see the old one or the new one, never a part."""
    descriptor, draft = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")  # mkstemp makes it 0600
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    Path(draft).replace(path)


def prepare(state_dir: Path) -> Path:
    """Make the state folder; its absolute path. Raises SettingsError when it cannot be written."""
    folder = state_dir.expanduser().resolve()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise SettingsError(
            f"the state folder {folder} cannot be written ({error.strerror}); set FORETIDE_STATE_DIR to one that can"
        ) from error
    return folder


class StateFolder:
    """A folder that one stack at a time holds; it keeps generated secrets and chosen ports."""

    def __init__(self, path: Path, *, temporary: bool) -> None:
        """Take the folder. Raises Conflict when another process holds it."""
        self.path, self.temporary = path, temporary
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock = (path / LOCK).open("a+")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._lock.close()
            raise Conflict(
                f"another stack is running on {path}; stop it, or set FORETIDE_STATE_DIR to another folder"
            ) from None

    @classmethod
    def kept(cls, state_dir: Path) -> StateFolder:
        """The folder of `./foretide up`, which survives restarts."""
        return cls(state_dir / "up", temporary=False)

    @classmethod
    def fresh(cls, state_dir: Path) -> StateFolder:
        """A new folder, deleted when it is released; those of stacks that were killed are deleted now."""
        with _alone(state_dir):
            for old in state_dir.glob(f"{TEMPORARY}*"):
                with contextlib.suppress(Conflict, OSError):
                    cls(old, temporary=True).release()
            return cls(Path(tempfile.mkdtemp(dir=state_dir, prefix=TEMPORARY)), temporary=True)

    def folder(self, name: str) -> Path:
        """A folder inside, made when it is not there."""
        path = self.path / name
        path.mkdir(parents=True, exist_ok=True)
        return path

    def remembered(self) -> dict[str, Any]:
        """What `remember` has kept."""
        try:
            kept: dict[str, Any] = json.loads((self.path / "stack.json").read_text())
        except FileNotFoundError:
            return {}
        return kept

    def remember(self, values: Mapping[str, Any]) -> None:
        """Keep values for the next start."""
        write_private(self.path / "stack.json", json.dumps(values, indent=2))

    def release(self) -> None:
        """Let others take the folder; a temporary one is deleted."""
        if self.temporary:
            shutil.rmtree(self.path, ignore_errors=True)
        self._lock.close()


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One process at a time: a folder that is new and not held yet is not taken for one that was left behind."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def secret(length: int = 32) -> str:
    """A random secret of `length` bytes that may stand in a URL."""
    return secrets.token_urlsafe(length)


def announce(state_dir: Path, note: Mapping[str, Any]) -> None:
    """Leave the note by which the command line and the SDK find the running stack, which this process has adopted."""
    settings = get_settings()
    environment = {f"FORETIDE_{name.upper()}": getattr(settings, name) for name in SHARED}
    write_private(state_dir / CURRENT, json.dumps({**note, "pid": os.getpid(), "environment": environment}, indent=2))


def withdraw(state_dir: Path) -> None:
    """Take back our own note; that of another stack stays."""
    note = read_note(state_dir)
    if note and note.get("pid") == os.getpid():
        (state_dir / CURRENT).unlink(missing_ok=True)


def read_note(state_dir: Path) -> dict[str, Any] | None:
    """The note of a running stack; None when there is none."""
    try:
        note: dict[str, Any] = json.loads((state_dir / CURRENT).read_text())
    except (OSError, ValueError):
        return None
    return note
