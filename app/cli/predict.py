"""`foretide predict`: scores rows of features with the model that serves."""

from __future__ import annotations

import json
from typing import BinaryIO

import click

from app.cli.output import Columns, json_option, print_rows
from app.cli.session import connect
from app.errors import Invalid

COLUMNS: Columns = {"P_HOT": "p_hot", "LOW": "p_low", "HIGH": "p_high", "TIER": "tier"}


@click.command()
@click.argument("file", type=click.File("rb"))
@click.option("--model", default="tier", show_default=True, help="The model's name.")
@json_option
def predict(file: BinaryIO, model: str, as_json: bool) -> None:
    """Score the rows of FILE (- for stdin): one JSON object of features a line, up to 1,000."""
    rows = []
    for number, line in enumerate(file, 1):
        try:
            rows.append(json.loads(line))
        except ValueError as error:
            raise Invalid(f"line {number} is not JSON: {error}") from error
    with connect() as client:
        reply = client.predict(rows, model)
        print_rows(reply["predictions"], COLUMNS, as_json=as_json, nothing="There are no rows.")
