from alembic import command
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine
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
