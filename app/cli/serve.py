"""`foretide serve`: runs the API and the dashboard in one process of several threads."""

from __future__ import annotations

import click

THREADS = 32
BACKLOG = 1024
STOP_S = 20
"""Time for requests under way after SIGTERM; those that wait for a job are answered at once."""


@click.command()
@click.option("--host", help="Address to listen on.  [default: FORETIDE_HOST]")
@click.option("--port", type=click.IntRange(0, 65535), help="Port to listen on.  [default: FORETIDE_PORT]")
def serve(host: str | None, port: int | None) -> None:
    """Run the API and the dashboard until SIGTERM or Ctrl-C."""
    from granian import Granian
    from granian.constants import Interfaces

    from app.settings import get_settings

    settings = get_settings()
    Granian(
        "app.server:serving_app",
        address=host or settings.host,
        port=settings.port if port is None else port,
        interface=Interfaces.WSGI,
        factory=True,
        blocking_threads=THREADS,
        backlog=BACKLOG,
        backpressure=THREADS * 4,
        workers_kill_timeout=STOP_S,
        websockets=False,
        log_enabled=settings.log_level == "DEBUG",
    ).serve()
