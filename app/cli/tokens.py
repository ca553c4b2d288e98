"""`foretide tokens`: who may call the API, and as what."""

from __future__ import annotations

import click

from app.cli.output import Columns, json_option, print_item, print_rows, when_of
from app.cli.session import agreed, connect, yes_options

COLUMNS: Columns = {
    "ID": "id",
    "NAME": "name",
    "PREFIX": "prefix",
    "ROLE": "role",
    "CREATED": when_of("created_at"),
    "EXPIRES": when_of("expires_at"),
    "REVOKED": when_of("revoked_at"),
}


@click.group()
def tokens() -> None:
    """List, create and revoke the API's tokens."""


@tokens.command("list")
@json_option
def list_tokens(as_json: bool) -> None:
    """List tokens; their secrets are kept nowhere."""
    with connect() as client:
        print_rows(client.tokens(), COLUMNS, as_json=as_json, nothing="There are no tokens.")


@tokens.command()
@click.argument("name")
@click.option("--role", type=click.Choice(["viewer", "operator", "admin"]), required=True, help="What it may do.")
@click.option("--expires-in-days", type=click.IntRange(min=1), help="Its life; without it, until it is revoked.")
@json_option
def create(name: str, role: str, expires_in_days: int | None, as_json: bool) -> None:
    """Create a token; it is shown this once."""
    with connect() as client:
        print_item(client.create_token(name, role, expires_in_days), {**COLUMNS, "TOKEN": "token"}, as_json=as_json)


@tokens.command()
@click.argument("token_id", type=int)
@yes_options
def revoke(token_id: int, yes: bool, dry_run: bool) -> None:
    """Revoke a token: it opens nothing from now on."""
    if agreed(f"revoke token {token_id}", yes=yes, dry_run=dry_run):
        with connect() as client:
            client.revoke_token(token_id)
