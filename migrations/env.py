"""Runs schema revisions on the connection that app.db.schema hands over, or on FORETIDE_DATABASE_URL."""

from __future__ import annotations

from alembic import context
from sqlalchemy import Connection, create_engine, text
from sqlalchemy.pool import NullPool

from app.db.tables import Base
from app.settings import get_settings

UPGRADE_LOCK = 8_307_411  # any fixed number: upgrades of one database take turns


def include_name(name: str | None, kind: str, _parents: object) -> bool:
    """Leave partitions out of what autogenerate compares: the database makes them, not a revision."""
    return kind != "table" or name in Base.metadata.tables


def run(connection: Connection) -> None:
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        include_name=include_name,
        compare_server_default=True,
    )
    with context.begin_transaction():
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": UPGRADE_LOCK})
        context.run_migrations()


def main() -> None:
    given = context.config.attributes.get("connection")
    if given is not None:
        run(given)
        return
    with create_engine(get_settings().sqlalchemy_url, poolclass=NullPool).begin() as connection:
        run(connection)


main()
