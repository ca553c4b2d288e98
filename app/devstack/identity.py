"""Lets Postgres, which refuses to run as root, run all the same when the stack is started by root.

First choice is a user namespace: inside it the process is not root, outside it still owns root's files, so it reaches
a .venv below a folder that only root may enter. Where namespaces are forbidden (most containers) it runs as `nobody`
and keeps the one capability of reaching files.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import struct
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

CLONE_NEWUSER = 0x1000_0000
NOBODY = 65_534
INSIDE = 1000  # any id but 0
CAP_DAC_OVERRIDE = 1
CAPABILITY_VERSION_3 = 0x2008_0522
PR_SET_KEEPCAPS = 8
PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE = 47, 2

_libc = ctypes.CDLL(None, use_errno=True)


def _checked(result: int, what: str) -> None:
    if result != 0:
        raise OSError(ctypes.get_errno(), f"{what}: {os.strerror(ctypes.get_errno())}")


def enter_user_namespace() -> None:
    """Become an ordinary user inside a new user namespace. Raises OSError where that is not allowed."""
    uid, gid = os.geteuid(), os.getegid()
    _checked(_libc.unshare(CLONE_NEWUSER), "unshare")
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{INSIDE} {uid} 1")
    Path("/proc/self/gid_map").write_text(f"{INSIDE} {gid} 1")


def become_nobody() -> None:
    """Become `nobody`, still able to reach folders that only root may enter. Raises OSError."""
    _checked(_libc.prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0), "prctl")
    os.setgroups([])
    os.setgid(NOBODY)
    os.setuid(NOBODY)
    mask = 1 << CAP_DAC_OVERRIDE
    header = struct.pack("=Ii", CAPABILITY_VERSION_3, 0)
    data = struct.pack("=6I", mask, mask, mask, 0, 0, 0)  # effective, permitted, inheritable; the upper words are 0
    _checked(_libc.capset(header, data), "capset")
    _checked(_libc.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_DAC_OVERRIDE, 0, 0), "prctl")


@lru_cache(maxsize=1)
def namespace_allowed() -> bool:
    """Whether this process may make a user namespace: tried in a child that ends at once."""
    child = os.fork()
    if child == 0:
        try:
            enter_user_namespace()
        except OSError:
            os._exit(1)
        os._exit(0)
    return os.waitpid(child, 0)[1] == 0


def unprivileged() -> Callable[[], None] | None:
    """What a child must call to stop being root; None when this process is not root."""
    if os.geteuid() != 0:
        return None
    return enter_user_namespace if namespace_allowed() else become_nobody


def give(folder: Path, prepare: Callable[[], None] | None) -> None:
    """Hand a folder with all it holds to whom a process prepared so will be in the eyes of the file system."""
    if os.geteuid() == 0:
        owner = NOBODY if prepare is become_nobody else 0
        for path in (folder, *folder.rglob("*")):
            shutil.chown(path, owner, owner)
