"""The engine of this process and the only place that commits."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache

from psycopg2 import OperationalError as RawOperationalError
from psycopg2.errors import DeadlockDetected
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import Session

from app.errors import DatabaseUnavailable, Deadlocked, SettingsError
from app.settings import get_settings


@lru_cache(maxsize=1)
def engine() -> Engine:
    """The connection pool of this process; forked children call `dispose` first. Raises SettingsError without a URL."""
    settings = get_settings()
    if not settings.database_url:
        raise SettingsError("FORETIDE_DATABASE_URL is not set; start a stack with ./foretide up, or set it")
    return create_engine(
        settings.sqlalchemy_url,
        pool_size=5,
        max_overflow=15,
        pool_pre_ping=True,
        pool_timeout=5,
        executemany_mode="values_plus_batch",  # many rows changed in a flush are one round trip
        connect_args={"connect_timeout": 3, "options": _options(settings.lease_s)},
    )


def _options(lease_s: float) -> str:
    """What each connection asks for: a process that is frozen in a transaction keeps its locks no longer than a lease.

    Otherwise nobody could take its work over, since the locks of its rows would outlive its claim.
    """
    frozen_ms = round(1000 * lease_s)
    return f"-c timezone=UTC -c lock_timeout=30s -c idle_in_transaction_session_timeout={frozen_ms}"


def dispose() -> None:
    """Forget the pool without closing the parent's sockets: called first in a forked worker process."""
    if engine.cache_info().currsize:
        engine().dispose(close=False)
        engine.cache_clear()


@contextmanager
def session_scope() -> Iterator[Session]:
    """One transaction: commits at the end, rolls back on any error.

    Raises DatabaseUnavailable without a connection, Deadlocked when the database has ended it for another's sake.
    No network call is made inside one; messages are rung after it.
    """
    session = Session(engine(), expire_on_commit=False)
    try:
        with session.begin():
            yield session
    except OperationalError as error:
        raise (Deadlocked if isinstance(error.orig, DeadlockDetected) else DatabaseUnavailable) from error
    except RawOperationalError as error:  # of the driver's own cursor, by which COPY goes
        raise (Deadlocked if isinstance(error, DeadlockDetected) else DatabaseUnavailable) from error
    except PoolTimeout as error:
        raise DatabaseUnavailable from error
    except DBAPIError as error:
        if error.connection_invalidated:
            raise DatabaseUnavailable from error
        raise
    finally:
        session.close()


def check() -> None:
    """Raises DatabaseUnavailable unless the database answers a query."""
    with session_scope() as session:
        session.execute(text("select 1"))
