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


@db.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def reseal(as_json: bool) -> int:
    """Put site secrets and model files under the first key of FORETIDE_SECRET_KEY; then the others can go.

    Exits with 7 when something is under none of the keys that are set: it is named and stays as it is.
    """
    from app.db import audit, model_files, secrets
    from app.db.session import session_scope
    from app.errors import ExitCode

    found = {}
    for what, part in (("site_secrets", secrets), ("model_files", model_files)):
        with session_scope() as session:
            found[what] = part.reseal(session)
            told = {"renewed": found[what].renewed, "refused": list(found[what].refused)}
            audit.append(session, "command line", "keys.reseal", what, told)
    if as_json:
        click.echo(json.dumps({what: vars(each) for what, each in found.items()}))
    else:
        for what, each in found.items():
            click.echo(f"{what.replace('_', ' ')}: {each.renewed} renewed, {each.as_they_were} as they were")
    refused = [name for each in found.values() for name in each.refused]
    for name in refused:
        click.echo(f"under none of the keys that are set: {name}", err=True)
    return ExitCode.PARTIAL if refused else ExitCode.OK


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
