"""How many requests a token may make: counted in the broker's server, in this process while that is away."""

from __future__ import annotations

from typing import Any

from flask import Flask, current_app, g, request
from flask_limiter import Limiter
from limits.storage import RedisStorage
from packaging.version import Version

from app.api.router import route_of
from app.settings import get_settings

TIMEOUT_S = 0.1
"""A counter that answers later than this is held to be away: it must not slow anything."""
SCHEME = "foretide+"


class Counters(RedisStorage):
    """Counters behind a URL of Redis or Valkey: asked once and briefly, by redis-py alone.

    The base class would load a second client library wherever it is installed, which costs the process 12 MiB.
    """

    STORAGE_SCHEME = [SCHEME + scheme for scheme in ("redis", "rediss", "unix")]  # noqa: RUF012
    DEPENDENCIES = {"redis": Version("3.0")}  # noqa: RUF012 - declared as an instance's by the base class

    def __init__(self, uri: str, **options: Any) -> None:
        from redis.backoff import NoBackoff
        from redis.retry import Retry

        once: dict[str, Any] = {
            "socket_timeout": TIMEOUT_S,
            "socket_connect_timeout": TIMEOUT_S,
            "retry": Retry(NoBackoff(), 0),
        }
        super().__init__(uri.removeprefix(SCHEME), **once, **options)


def _caller() -> str:
    found = g.get("identity")
    return f"token:{found.token_id}" if found else f"address:{request.remote_addr}"


def _is_free() -> bool:
    route = route_of(current_app.view_functions.get(request.endpoint or ""))
    return route is None or not route.limited


def install(app: Flask) -> None:
    """Limits every declared route but those that are measured by other means (`limited=False`)."""
    settings = get_settings()
    limiter = Limiter(
        key_func=_caller,
        application_limits=[settings.rate_limit],
        storage_uri=SCHEME + settings.broker_url if settings.broker_url else "memory://",
        in_memory_fallback_enabled=True,
        strategy="fixed-window",
        key_prefix="foretide:limits:",
    )
    limiter.request_filter(_is_free)
    limiter.init_app(app)
