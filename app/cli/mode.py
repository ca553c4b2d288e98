"""`foretide mode`: how far the optimizer may go by itself."""

from __future__ import annotations

import click

from app.cli.output import Columns, json_option, print_item, when_of
from app.cli.session import agreed, connect, yes_options
from app.domain.states import Mode

FIELDS: Columns = {"MODE": "mode", "REASON": "reason", "SET BY": "created_by", "SINCE": when_of("created_at")}


@click.group()
def mode() -> None:
    """Show or set how far the optimizer may go by itself."""


@mode.command()
@json_option
def show(as_json: bool) -> None:
    """Show the mode, who set it and why."""
    with connect() as client:
        print_item(client.mode(), FIELDS, as_json=as_json)


@mode.command("set")
@click.argument("new", metavar="MODE", type=click.Choice([each.value for each in Mode]))
@click.option("--reason", help="Kept in the audit log and shown on screen.")
@yes_options
def set_mode(new: str, reason: str | None, yes: bool, dry_run: bool) -> None:
    """Set the mode: observe, approve, auto or paused."""
    with connect() as client:
        if agreed(f"change the mode from {client.mode()['mode']} to {new}", yes=yes, dry_run=dry_run):
            click.echo(f"mode {client.set_mode(new, reason)['mode']}")
