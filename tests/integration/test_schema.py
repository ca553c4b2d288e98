from alembic import command
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, text
from sqlalchemy.orm import Session

from app.db import schema
from app.settings import Settings


def revisions() -> list[str]:
    """The revisions, oldest first."""
    scripts = ScriptDirectory.from_config(schema.config())
    return [script.revision for script in scripts.walk_revisions()][::-1]


def test_revisions_are_numbered_one_after_the_other_with_one_head() -> None:
    assert revisions() == [f"{number:04}" for number in range(1, len(revisions()) + 1)]
    assert len(ScriptDirectory.from_config(schema.config()).get_heads()) == 1


def test_the_newest_revision_makes_exactly_the_tables_of_the_code(session: Session) -> None:
    config = schema.config()
    config.attributes["connection"] = session.connection()
    command.check(config)
    assert schema.is_current(session)


def test_each_revision_goes_down_to_the_previous_one_and_up_again(clean_database: str) -> None:
    url = Settings(database_url=clean_database).sqlalchemy_url
    for before in ["base", *revisions()[:-1]][::-1]:
        config = schema.config()
        with create_engine(url).begin() as connection:
            config.attributes["connection"] = connection
            command.downgrade(config, before)
        schema.upgrade(url)
    with create_engine(url).connect() as connection, Session(connection) as session:
        assert schema.is_current(session)


def test_objects_that_were_gone_before_get_the_end_that_the_audit_log_tells(clean_database: str) -> None:
    url = Settings(database_url=clean_database).sqlalchemy_url
    config = schema.config()
    with create_engine(url).begin() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "0005")
        for row in (
            "('told', 'gone', '2026-01-01Z')",
            "('untold', 'gone', '2026-01-02Z')",
            "('here', 'present', now())",
        ):
            connection.execute(text(f"insert into object (key, state, written_at) values {row}"))
        told = "('2026-03-01Z', 'worker', 'object.gone', 'told'), ('2026-04-01Z', 'worker', 'object.gone', 'here')"
        connection.execute(text(f"insert into audit (at, actor, action, subject) values {told}"))
    schema.upgrade(url)
    with create_engine(url).connect() as connection:
        ends = connection.execute(text("select key, (gone_at at time zone 'UTC')::date::text from object order by id"))
        assert ends.all() == [("told", "2026-03-01"), ("untold", "2026-01-02"), ("here", None)]
