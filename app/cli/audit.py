"""`foretide audit`: who changed what."""

from __future__ import annotations

from itertools import islice

import click

from app.cli.output import Columns, json_option, print_rows, when_of
from app.cli.session import connect

COLUMNS: Columns = {
    "ID": "id",
    "AT": when_of("at"),
    "ACTOR": "actor",
    "ACTION": "action",
    "SUBJECT": "subject",
    "DATA": "data",
}


@click.group()
def audit() -> None:
    """Show who changed what."""


@audit.command("list")
@click.option("--limit", type=click.IntRange(min=1), default=100, show_default=True, help="At most so many.")
@json_option
def list_entries(limit: int, as_json: bool) -> None:
    """List changes, newest first."""
    with connect() as client:
        print_rows(islice(client.audit(), limit), COLUMNS, as_json=as_json, nothing="Nothing was changed yet.")
