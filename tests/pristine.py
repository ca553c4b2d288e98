"""The database that tests commit to, as good as new for each: emptied, or replaced where its schema was changed."""

from __future__ import annotations

import psycopg2
from psycopg2 import sql
from psycopg2.extensions import cursor
from sqlalchemy.engine import make_url

from app.db import schema, server
from app.settings import Settings

FIRST_OWN = 16384
"""The object ids below it are Postgres' own."""
SHAPE = f"""
select count(*), sum(id::bigint), sum(hashtext(what)::bigint) from (
    select oid, concat(relname, relkind, relacl) from pg_class
    union all select attrelid, concat(attname, attnum, atttypid, attnotnull, attisdropped) from pg_attribute
    union all select oid, concat(adrelid, adnum) from pg_attrdef
    union all select oid, concat(conname, conrelid) from pg_constraint
    union all select oid, concat(tgname, tgrelid, tgenabled) from pg_trigger
    union all select oid, concat(proname, prosrc) from pg_proc
    union all select {FIRST_OWN}, setconfig::text from pg_db_role_setting
        where setdatabase = (select oid from pg_database where datname = current_database())
) as found (id, what) where id >= {FIRST_OWN}
"""
"""Whatever is created, dropped or altered changes it; rows do not."""
END_OTHERS = """
select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()
"""
TABLES = "select relname from pg_class where relkind = 'r' and relnamespace = 'public'::regnamespace and relname <> %s"
BEGIN_ANEW = """
select setval(format('%I.%I', schemaname, sequencename)::regclass, start_value, false) from pg_sequences
where last_value is not null
"""
KEPT = "alembic_version"
"""What the revisions have written: no test changes it without changing the schema."""


class Pristine:
    """A migrated database without rows, at its own URL."""

    def __init__(self, server_url: str, name: str, template: str) -> None:
        """server_url: of any other database of the server; template: its name; it is made by `start`."""
        self._server, self._name, self._template = server_url, name, template
        self.url = self._url(name)

    def start(self) -> None:
        """Makes it, and the template that it is a copy of."""
        server.create_database(self._server, self._template)
        schema.upgrade(Settings(database_url=self._url(self._template)).sqlalchemy_url)
        self._replace()
        with psycopg2.connect(self.url) as connection, connection.cursor() as open_cursor:
            self._shape = shape(open_cursor)
        connection.close()

    def restore(self) -> None:
        """Ends all sessions in it and takes away what tests have left there."""
        connection = psycopg2.connect(self.url)
        try:
            with connection, connection.cursor() as open_cursor:
                open_cursor.execute(END_OTHERS)
                is_ours = shape(open_cursor) == self._shape
                if is_ours:
                    empty(open_cursor)
        finally:
            connection.close()
        if not is_ours:
            self._replace()

    def drop(self) -> None:
        """Drops it and the template."""
        for name in (self._name, self._template):
            server.drop_database(self._server, name)

    def _replace(self) -> None:
        server.drop_database(self._server, self._name)
        server.create_database(self._server, self._name, template=self._template)

    def _url(self, name: str) -> str:
        return make_url(self._server).set(database=name).render_as_string(hide_password=False)


def shape(open_cursor: cursor) -> tuple[int, ...]:
    """What the schema looks like."""
    open_cursor.execute(SHAPE)
    return open_cursor.fetchone()


def empty(open_cursor: cursor) -> None:
    """Empties the tables that hold rows, and lets all numbers begin anew."""
    open_cursor.execute(TABLES, (KEPT,))
    asked = [
        sql.SQL("select {} where exists (select from {})").format(sql.Literal(name), sql.Identifier(name))
        for (name,) in open_cursor.fetchall()
    ]
    open_cursor.execute(sql.SQL(" union all ").join(asked))
    if full := [sql.Identifier(name) for (name,) in open_cursor.fetchall()]:
        open_cursor.execute(sql.SQL("truncate {} cascade").format(sql.SQL(", ").join(full)))
    open_cursor.execute(BEGIN_ANEW)
