"""The part of a worker that holds the connection to the broker."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import Any

from celery.worker.consumer import Consumer as CelerysConsumer

RETRY_S = 2.0


class Consumer(CelerysConsumer):
    """Asks for a broker that is away every two seconds: Celery's own waits grow to half a minute."""

    def ensure_connected(self, conn: Any) -> Any:
        """The connection, once it stands."""
        steady = {"interval_start": RETRY_S, "interval_step": 0.0, "interval_max": RETRY_S}
        conn.ensure_connection = partial(conn.ensure_connection, **steady)
        return super().ensure_connected(conn)

    def on_connection_error_after_connected(self, exc: Exception) -> None:
        """Drops a connection that was lost.

        While it is closed, kombu would give back over it the messages that are not acknowledged yet, and fails with an
        AttributeError that would end the worker. They come back without that: see `visibility_timeout` and the sweep.
        """
        with suppress(AttributeError):
            super().on_connection_error_after_connected(exc)
