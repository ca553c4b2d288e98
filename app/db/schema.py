"""Brings the schema to its newest revision and says at which one it stands."""

from __future__ import annotations

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool

from app.settings import PROJECT_ROOT


def config() -> Config:
    """Alembic's configuration; it holds absolute paths, so that it works from any folder."""
    made = Config(toml_file=PROJECT_ROOT / "pyproject.toml")
    made.set_main_option("script_location", str(PROJECT_ROOT / "migrations").replace("%", "%%"))
    return made


def upgrade(url: str, revision: str = "head") -> None:
    """Bring the database at an SQLAlchemy URL to a revision; two at once are run one after the other."""
    engine = create_engine(url, poolclass=NullPool)
    with engine.begin() as connection:
        made = config()
        made.attributes["connection"] = connection
        command.upgrade(made, revision)


def head() -> str | None:
    """The newest revision of this program."""
    return ScriptDirectory.from_config(config()).get_current_head()


def current(session: Session) -> str | None:
    """The revision at which the database stands; None before the first."""
    return MigrationContext.configure(session.connection()).get_current_revision()


def is_current(session: Session) -> bool:
    """Whether the database stands at the newest revision."""
    return current(session) == head()
