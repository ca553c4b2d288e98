"""`foretide models train|predict|delete|export` of models over a user's own events."""

from __future__ import annotations

import gzip
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import click

from app.cli.arguments import NewFile, rows_of
from app.cli.output import Columns, Json, json_option, print_json, print_rows, safe
from app.cli.session import agreed, connect, yes_options
from app.client import Client
from app.domain.general_models import PARAMS, Algorithm, Missing, Task

GZIP_MAGIC = b"\x1f\x8b"
CHUNK = 2**20
PARAMETERS = "; ".join(f"{algorithm}: {', '.join(names)}" for algorithm, names in PARAMS.items() if names)


def recipe_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds what a model over own events is trained with."""
    choices = {"algorithm": Algorithm, "task": Task, "missing": Missing}
    told = {
        "algorithm": "What to train over --events.",
        "task": "What the target is; auto: numbers are measured; text, true and false are classes.",
        "missing": "What a missing feature counts as; mean by default, drop leaves the event out.",
    }
    options = [
        click.option("--events", type=click.File("rb"), help="Learn from FILE (- for stdin): a JSON object a line."),
        click.option("--features", help="The fields to learn from, split by commas."),
        click.option("--target", help="The field that is learned; forests and lines need it."),
        click.option("--time", help="The field with an event's time: the latest fifth is held out."),
        click.option("--scale/--no-scale", default=None, help="Standardize the features; by default lines, clusters."),
        click.option("--param", "params", multiple=True, metavar="NAME=VALUE", help=PARAMETERS),
        click.option("--seed", type=click.IntRange(0, 2**32 - 1), help="What chance starts from."),
        *(
            click.option(f"--{name}", type=click.Choice([each.value for each in kind]), help=told[name])
            for name, kind in choices.items()
        ),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def train_over_events(client: Client, name: str, recipe: Json) -> Json:
    """Sends the events and starts the training; the job."""
    given = {option: value for option, value in recipe.items() if value not in (None, ())}
    file = given.pop("events")
    for option in ("algorithm", "features"):
        if option not in given:
            raise click.UsageError(f"with --events say --{option} too")
    if "params" in given:
        given["params"] = ",".join(given["params"])
    return client.train_over_events(name, _packed(file), **given)


def _packed(file: BinaryIO) -> bytes:
    """The file gzipped: as it is where it is gzip already."""
    first = file.read(CHUNK)
    if first[:2] == GZIP_MAGIC:
        return first + file.read()
    buffer = io.BytesIO()
    with gzip.GzipFile(fileobj=buffer, mode="wb", compresslevel=3) as packed:
        while first:
            packed.write(first)
            first = file.read(CHUNK)
    return buffer.getvalue()


@click.command()
@click.argument("name")
@click.option("--rows", "file", type=click.File("rb"), required=True, help="FILE (- for stdin): a JSON object a line.")
@json_option
def predict(name: str, file: BinaryIO, as_json: bool) -> None:
    """Tell what a model over own events says of the rows of a file, up to 1,000; more by predict-batch."""

    with connect() as client:
        reply = client.predict(rows_of(file), name)
    if as_json:
        print_json(reply)
        return
    if reply.get("filled"):
        click.echo(f"missing in some rows: {safe(', '.join(reply['filled']))}", err=True)
    if reply["beats_baseline"] is not True:
        said = (
            "is no better than its baseline" if reply["beats_baseline"] is False else "is not known to beat a baseline"
        )
        click.echo(f"{safe(name)} {reply['version']} {said} ({reply['held_out']} rows held out)", err=True)
    print_rows(reply["predictions"], columns_of(reply["predictions"]), as_json=False, nothing="There are no rows.")


def columns_of(predictions: list[Json]) -> Columns:
    """The prediction, and what else stands beside it."""
    return {name.upper(): name for name in (predictions[0] if predictions else {"prediction": None})}


@click.command()
@click.argument("name")
@click.argument("version", type=int, required=False)
@yes_options
def delete(name: str, version: int | None, yes: bool, dry_run: bool) -> None:
    """Delete a model over own events with its files, or one version of it that does not serve."""
    with connect() as client:
        if version is None:
            client.model(name)  # one that is not there is told before anything is asked
        else:
            client.model_version(name, version)
        what = f"{name} {version}" if version else f"{name} and all its versions"
        if agreed(f"delete model {what}", yes=yes, dry_run=dry_run):
            client.delete_model(name, version)
            click.echo(f"deleted {safe(what)}")


@click.command()
@click.argument("name")
@click.argument("version", type=int, required=False)
@click.option("--format", "form", type=click.Choice(["onnx", "packed"]), default="onnx", show_default=True)
@click.option("--output", type=NewFile(), required=True, help="The file to write.")
def export(name: str, version: int | None, form: str, output: Path) -> None:
    """Write a version of a model, by default the one that serves, as ONNX or as packed arrays."""
    with connect() as client:
        number = version or client.serving_version(name)
        output.write_bytes(client.model_file(name, number, form))
    click.echo(f"{safe(name)} {number} as {form}: {safe(output)}")
