"""How many requests a token may make: counted in the broker's server, in this process while that is away."""

from __future__ import annotations

from typing import Any

from flask import Flask, current_app, g, request
from flask_limiter import Limiter

from app.api.router import route_of
from app.settings import get_settings

TIMEOUT_S = 0.1
"""A counter that answers later than this is held to be away: it must not slow anything."""


def _caller() -> str:
    found = g.get("identity")
    return f"token:{found.token_id}" if found else f"address:{request.remote_addr}"


def _is_free() -> bool:
    route = route_of(current_app.view_functions.get(request.endpoint or ""))
    return route is None or not route.limited


def _quick() -> dict[str, Any]:
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    return {"socket_timeout": TIMEOUT_S, "socket_connect_timeout": TIMEOUT_S, "retry": Retry(NoBackoff(), 0)}


def install(app: Flask) -> None:
    """Limits every declared route but those that are measured by other means (`limited=False`)."""
    settings = get_settings()
    limiter = Limiter(
        key_func=_caller,
        application_limits=[settings.rate_limit],
        storage_uri=settings.broker_url or "memory://",
        storage_options=_quick() if settings.broker_url else {},
        in_memory_fallback_enabled=True,
        strategy="fixed-window",
        key_prefix="foretide:limits:",
    )
    limiter.request_filter(_is_free)
    limiter.init_app(app)
