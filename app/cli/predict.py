"""`foretide predict`: scores rows of features with the model that serves."""

from __future__ import annotations

from typing import BinaryIO

import click

from app.cli.arguments import rows_of
from app.cli.general_models import columns_of
from app.cli.output import Columns, json_option, print_rows, safe
from app.cli.session import connect

COLUMNS: Columns = {"P_HOT": "p_hot", "LOW": "p_low", "HIGH": "p_high", "TIER": "tier"}
"""Of the model of tiers; any other's answers have what it was trained for."""


@click.command()
@click.argument("file", type=click.File("rb"))
@click.option("--model", default="tier", show_default=True, help="The model's name.")
@json_option
def predict(file: BinaryIO, model: str, as_json: bool) -> None:
    """Score the rows of FILE (- for stdin): one JSON object of features a line, up to 1,000."""
    rows = rows_of(file)
    with connect() as client:
        reply = client.predict(rows, model)
        if refused := reply.get("refused"):
            click.echo(f"refused: {safe(refused)}; version {reply['version']} scored instead", err=True)
        told = reply["predictions"]
        columns = COLUMNS if "p_hot" in told[0] else columns_of(told)
        print_rows(told, columns, as_json=as_json, nothing="There are no rows.")
