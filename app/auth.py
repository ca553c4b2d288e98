"""Who asks and what they may: bearer tokens, roles and a limit of failed logins. Used by api and web."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import ip_address
from threading import Lock
from typing import Any

from flask import Flask, g, request

from app.db import tokens
from app.db.session import session_scope
from app.domain.roles import Role
from app.errors import Forbidden, Throttled, Unauthorized

CACHE_S = 1.0
"""A token's row is believed for so long, so a revoked one is refused after at most that."""
CACHE_SIZE = 1024
FAILURES = 300
FAILURES_WINDOW_S = 60.0
"""So many unknown tokens an address may send in the window; valid ones are never held up by others' failures."""
OPEN = "open"
LOOPBACK = "loopback"
"""A viewer's token, or none from this machine."""
Access = Role | str
_ATTRIBUTE = "foretide_access"


@dataclass(frozen=True)
class Identity:
    """The token that a request carries."""

    token_id: int
    name: str
    role: Role


class Cache:
    """Identities by token hash, each for at most CACHE_S seconds."""

    def __init__(self) -> None:
        self._entries: OrderedDict[str, tuple[float, Identity]] = OrderedDict()
        self._lock = Lock()

    def get(self, sha256: str) -> Identity | None:
        """The identity, if it was read less than CACHE_S ago."""
        with self._lock:
            entry = self._entries.get(sha256)
        return entry[1] if entry and time.monotonic() - entry[0] < CACHE_S else None

    def put(self, sha256: str, identity: Identity, read_at: float) -> None:
        """Keeps what was asked of the database at `read_at`."""
        with self._lock:
            self._entries[sha256] = (read_at, identity)
            self._entries.move_to_end(sha256)
            if len(self._entries) > CACHE_SIZE:
                self._entries.popitem(last=False)


class Failures:
    """Counts failed logins an address in fixed windows."""

    def __init__(self, limit: int, window_s: float) -> None:
        self._limit, self._window_s = limit, window_s
        self._window = -1
        self._counts: dict[str, int] = {}
        self._lock = Lock()

    def add(self, address: str) -> None:
        """Counts one. Raises Throttled above the limit."""
        now = time.monotonic()
        with self._lock:
            if now // self._window_s != self._window:
                self._window, self._counts = int(now // self._window_s), {}
            count = self._counts[address] = self._counts.get(address, 0) + 1
        if count > self._limit:
            raise Throttled("too many failed logins from this address", retry_after_s=self._window_s)


_cache = Cache()
_failures = Failures(FAILURES, FAILURES_WINDOW_S)


def declare(view: Callable[..., Any], access: Access) -> None:
    """Says who may call a view; `install` refuses to start an application with a view that says nothing."""
    setattr(view, _ATTRIBUTE, access)


def access_of(view: Callable[..., Any]) -> Access | None:
    """What the view declares."""
    return getattr(view, _ATTRIBUTE, None)


def identify(token: str) -> Identity:
    """Whose token this is. Raises Unauthorized, or Throttled after too many failures."""
    sha256 = tokens.digest(token)
    if found := _cache.get(sha256):
        return found
    read_at = time.monotonic()
    with session_scope() as session:
        row = tokens.find(session, sha256)
    if row is None:
        _failures.add(request.remote_addr or "")
        raise Unauthorized("the token is unknown, expired or revoked")
    identity = Identity(row.id, row.name, Role(row.role))
    _cache.put(sha256, identity, read_at)
    return identity


def identity() -> Identity:
    """Whose request this is. Raises Unauthorized when it carries no token."""
    found: Identity | None = g.get("identity")
    if found is None:
        raise Unauthorized
    return found


def is_loopback(address: str | None) -> bool:
    """Whether a request comes from this machine without passing a proxy."""
    return bool(address) and ip_address(str(address)).is_loopback and "X-Forwarded-For" not in request.headers


def authorize(view: Callable[..., Any], token: str | None) -> None:
    """Lets the request through to a view or raises Unauthorized or Forbidden; keeps the identity for the request."""
    access = access_of(view)
    if access == OPEN or (access == LOOPBACK and token is None and is_loopback(request.remote_addr)):
        return
    if token is None:
        raise Unauthorized
    found = g.identity = identify(token)
    needed = access if isinstance(access, Role) else Role.VIEWER
    if not found.role.includes(needed):
        raise Forbidden(f"this needs a token of role {needed}; {found.name} is {found.role}")


def bearer() -> str | None:
    """The bearer token of the request, if there is one."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" and token.strip() else None


def check_declared(app: Flask) -> None:
    """Raises RuntimeError when a route of the application does not say who may call it."""
    silent = [rule.rule for rule in app.url_map.iter_rules() if access_of(app.view_functions[rule.endpoint]) is None]
    if silent:
        raise RuntimeError(f"routes without a role: {', '.join(silent)}")
