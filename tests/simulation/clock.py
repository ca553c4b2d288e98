"""A clock that stands still until it is told how long something took, in this process and in the database."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import event, text

from app.db import session as database
from app.db.session import session_scope

BEGIN = datetime(2040, 6, 1, 23, 30, tzinfo=UTC)
"""Half an hour before midnight, so that a day's budget ends within the hour; later than any wall clock."""
SCHEMA = """
create schema if not exists sim;
create or replace function sim.now() returns timestamptz language sql stable as
  $$ select coalesce(nullif(current_setting('sim.now', true), '')::timestamptz, pg_catalog.now()) $$;
do $$ declare found record; begin
  for found in select table_name, column_name from information_schema.columns
    where table_schema = 'public' and column_default = 'now()' loop
    execute format('alter table public.%I alter column %I set default sim.now()', found.table_name, found.column_name);
  end loop;
  execute format('alter database %I set search_path = sim, pg_catalog, public', current_database());
  execute format('alter database %I set synchronous_commit = off', current_database());
end $$;
"""
"""now() of the database, and so every default and comparison, is what the session was told that it is."""


class Clock:
    """The time of a simulated world."""

    def __init__(self) -> None:
        self.now = BEGIN

    def reset(self) -> None:
        """Back to the beginning."""
        self.now = BEGIN

    def seconds(self) -> float:
        """As a monotonic clock tells."""
        return (self.now - BEGIN).total_seconds()

    def pass_s(self, seconds: float) -> None:
        """So much time goes by."""
        self.now += timedelta(seconds=seconds)

    @contextmanager
    def ruling(self) -> Iterator[None]:
        """While it lasts, the database of this process goes by this clock; for a database that is thrown away."""
        with session_scope() as session:
            session.execute(text(SCHEMA))
        database.engine().dispose()  # new connections know the path
        engine = database.engine()
        event.listen(engine, "begin", self._tell)
        try:
            yield
        finally:
            event.remove(engine, "begin", self._tell)

    def _tell(self, connection: Any) -> None:
        connection.exec_driver_sql("select set_config('sim.now', %s, true)", (self.now.isoformat(),))
