"""`foretide route`: which replica a read goes to, what is known of the sites, and the read itself."""

from __future__ import annotations

from typing import BinaryIO

import click

from app.cli.output import Columns, json_option, print_item, print_rows
from app.cli.route_explore import explore
from app.cli.route_simulate import simulate
from app.cli.session import connect

COLUMNS: Columns = {
    "SITE": "site",
    "STATE": "state",
    "REASON": "reason",
    "EXPECTED MS": "predicted_ms",
    "P95 MS": "p95_ms",
    "ERROR RATE": "error_rate",
    "SAMPLES": "samples",
}
FIELDS: Columns = {
    "SITE": "site",
    "REASON": "reason",
    "PREDICTED MS": "predicted_ms",
    "ALTERNATIVES": "alternatives",
    "DECISION": "decision_id",
}


@click.group()
def route() -> None:
    """Ask where a read goes, and read."""


@route.command()
@click.argument("key")
@click.option("--region", help="Where the reader is.")
@click.option("--sla-ms", type=click.FloatRange(min=0, min_open=True), help="Time to the first byte that is asked for.")
@json_option
def decide(key: str, region: str | None, sla_ms: float | None, as_json: bool) -> None:
    """Say which replica of KEY a read should go to, and why."""
    with connect() as client:
        print_item(client.decide_route(key, region, sla_ms), FIELDS, as_json=as_json)


@route.command()
@json_option
def endpoints(as_json: bool) -> None:
    """List what routing knows of each site."""
    with connect() as client:
        print_rows(client.endpoints(), COLUMNS, as_json=as_json, nothing="There are no sites. Next: foretide sites add")


@route.command()
@click.argument("key")
@click.option("--output", "-o", type=click.File("wb"), default="-", help="Where to write; stdout by default.")
@click.option("--region", help="Where the reader is.")
def read(key: str, output: BinaryIO, region: str | None) -> None:
    """Read KEY from the best replica."""
    with connect() as client, client.read(key, region=region) as blocks:
        for block in blocks:
            output.write(block)


route.add_command(simulate)
route.add_command(explore)
