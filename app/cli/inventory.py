"""`foretide ingest inventory`: adds the objects that an inventory of a bucket tells of to the catalogue."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from app.blocks import BLOCK_LINES
from app.cli.output import json_option, print_json, safe
from app.cli.session import connect
from app.errors import ExitCode

if TYPE_CHECKING:
    from app.blocks import IngestReport

SHOWN = 20


@click.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--site", required=True, help="The site whose bucket it tells of.")
@click.option("--dry-run", is_flag=True, help="Read and count; send nothing.")
@json_option
def inventory(file: Path, site: str, dry_run: bool, as_json: bool) -> ExitCode:
    """Add the objects of FILE: an S3 Inventory's manifest.json with its files beside it, or Parquet or CSV.

    Key, size, ETag and last modified date of each object are needed. What the catalogue knows at the site stays as it
    is, so it may be run again; a scan tells what has changed since the inventory was made.
    """
    from app.lab.inventory import read_lines

    lines = read_lines(file)
    if dry_run:
        counted = sum(1 for _ in lines)
        if as_json:
            print_json({"objects": counted})
        else:
            click.echo(f"{counted} objects; nothing was sent")
        return ExitCode.OK
    with connect() as client:
        report = client.import_inventory(site, lines, on_block=_tell)
    if as_json:
        print_json(vars(report))
    else:
        click.echo(f"added {report.accepted}, known {report.duplicates}, rejected {report.rejected}")
    for error in report.errors[:SHOWN]:
        click.echo(f"object {error['line']}: {safe(error['pointer'])} {safe(error['detail'])}", err=True)
    if len(report.errors) > SHOWN:
        click.echo(f"… and {len(report.errors) - SHOWN} more; --json lists them all", err=True)
    return ExitCode.PARTIAL if report.rejected else ExitCode.OK


def _tell(report: IngestReport) -> None:
    if sys.stderr.isatty():
        click.echo(f"\r{report.lines:,} objects", nl=False, err=True)
    elif report.lines % 1_000_000 < BLOCK_LINES:
        click.echo(f"{report.lines} objects", err=True)
