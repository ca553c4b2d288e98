"""`foretide exports list|run`: days of accesses that lie at a site as Parquet."""

from __future__ import annotations

import click

from app.cli.output import json_option, print_rows, size_of, when_of
from app.cli.session import connect, finish, wait_options


@click.group()
def exports() -> None:
    """List and run the export of accesses as Parquet."""


@exports.command("list")
@json_option
def list_exports(as_json: bool) -> None:
    """List the days that were exported, the newest first."""
    columns = {
        "DAY": "day",
        "SITE": "site",
        "KEY": "key",
        "ROWS": "rows",
        "SIZE": size_of("bytes"),
        "VERSION": "version",
        "EXPORTED": when_of("exported_at"),
    }
    with connect() as client:
        nothing = "No day was exported yet; set FORETIDE_EXPORT_SITE, then: foretide exports run"
        print_rows(client.exports(), columns, as_json=as_json, nothing=nothing)


@exports.command()
@wait_options
def run(wait: bool, timeout: float | None, as_json: bool) -> None:
    """Export the closed days whose accesses are in no export yet."""
    with connect() as client:
        finish(client, client.run_export(), wait=wait, timeout=timeout, as_json=as_json)
