"""Makes and drops whole databases on a Postgres server: for the devstack and the tests, never for the service."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg2
from psycopg2 import errors, sql
from psycopg2.extensions import cursor


@contextmanager
def _cursor(url: str) -> Iterator[cursor]:
    connection = psycopg2.connect(url, connect_timeout=3)
    connection.autocommit = True  # CREATE DATABASE refuses to run in a transaction
    try:
        with connection.cursor() as open_cursor:
            yield open_cursor
    finally:
        connection.close()


def server_version(url: str) -> str | None:
    """The server's version, such as 18.4; None when it does not answer."""
    try:
        with _cursor(url) as open_cursor:
            open_cursor.execute("SHOW server_version")
            row = open_cursor.fetchone()
    except psycopg2.OperationalError:
        return None
    return str(row[0]).split()[0] if row else None


def create_database(url: str, name: str, *, template: str = "template1") -> None:
    """Make a database as a copy of `template`, to which nobody may be connected. One that exists stays as it is."""
    statement = sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(template))
    with _cursor(url) as open_cursor:
        try:
            open_cursor.execute(statement)
        except errors.DuplicateDatabase:
            return


def drop_database(url: str, name: str) -> None:
    """Drop a database and end the sessions in it."""
    with _cursor(url) as open_cursor:
        open_cursor.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))
