"""`foretide db`: brings the database's schema up to date and says at which revision it stands."""

from __future__ import annotations

import json

import click


@click.group()
def db() -> None:
    """Bring the database's schema up to date."""


@db.command()
def upgrade() -> None:
    """Bring FORETIDE_DATABASE_URL to the newest revision; safe to run again, and by several at once."""
    from app.db import schema
    from app.db.session import check
    from app.settings import get_settings

    check()
    schema.upgrade(get_settings().sqlalchemy_url)
    click.echo(f"the schema stands at {schema.head()}")


@db.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def current(as_json: bool) -> int:
    """Say at which revision the schema stands; exits with 20 when it is not the newest."""
    from app.db import schema
    from app.db.session import session_scope
    from app.errors import ExitCode

    with session_scope() as session:
        stands, newest = schema.current(session), schema.head()
    if as_json:
        click.echo(json.dumps({"current": stands, "head": newest}))
    else:
        click.echo(f"at {stands or 'no revision'}, newest {newest}")
    return ExitCode.OK if stands == newest else ExitCode.CHANGES


@db.command("admin-token")
@click.option("--name", default="first", show_default=True, help="What to call it in the list of tokens.")
def admin_token(name: str) -> None:
    """Make an administrator's token right in the database: the first one, or when all others are lost."""
    from app.db import tokens
    from app.db.session import session_scope
    from app.domain.roles import Role

    with session_scope() as session:
        token = tokens.create(session, name, Role.ADMIN)[1]
    click.echo(token)
