"""`foretide batch run|engine`: operations over files of events, topics or accesses, by DuckDB or Spark."""

from __future__ import annotations

import gzip
import io
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any, BinaryIO

import click

from app.cli.arguments import Finite, NewFile
from app.cli.output import Columns, Json, json_option, print_item, print_json, safe
from app.cli.session import connect, follow
from app.client import Client
from app.domain.batch import EngineName, Operation
from app.errors import ExitCode

GZIP_MAGIC = b"\x1f\x8b"


@click.group()
def batch() -> None:
    """Aggregate, join and judge many events at once."""


def recipe_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds what the operations are told, each as POST /v1/batch takes it."""
    options = [
        click.option("--time", help="The field with an event's time; timestamp, else ts, unless told."),
        click.option("--value", help="The number that is measured; value, of accesses bytes, unless told."),
        click.option("--key", help="The field that streams are joined by."),
        click.option("--group-by", help="Fields that tell groups apart, split by commas."),
        click.option("--window-minutes", type=click.IntRange(min=1), help="Of time_window_metrics; 60 unless told."),
        click.option("--threshold", type=Finite(min=0, min_open=True), help="Standard deviations; 2 unless told."),
        click.option("--within", "within_seconds", type=Finite(min=0), help="Seconds that joined events are apart."),
        click.option(
            "--engine", type=click.Choice([each.value for each in EngineName]), help="By the settings unless told."
        ),
    ]
    for option in reversed(options):
        command = option(command)
    return command


@batch.command("run")
@click.argument("operation", type=click.Choice([each.value for each in Operation]))
@click.option("--file", type=click.File("rb"), help="Events (- for stdin), one JSON object a line; gzip too.")
@click.option("--with", "other", type=click.File("rb"), help="The right stream of join_streams, beside --file.")
@click.option("--topic", help="Events of a topic instead, or of those that came between --since and --until.")
@click.option("--since", metavar="TIME", help="Accesses from this time on, such as 2026-11-06T00:00:00Z, instead.")
@click.option("--until", metavar="TIME", help="The first moment that is not meant any more.")
@click.option("--prefix", help="Only accesses of keys that begin so.")
@recipe_options
@click.option("--output", type=NewFile(), help="Write the lines to this file instead of stdout.")
@click.option("--timeout", type=click.FloatRange(min=0), help="Seconds to wait; exit code 10 after them.")
@json_option
def run(
    operation: str,
    file: BinaryIO | None,
    other: BinaryIO | None,
    topic: str | None,
    since: str | None,
    until: str | None,
    prefix: str | None,
    output: Path | None,
    timeout: float | None,
    as_json: bool,
    **recipe: Any,
) -> ExitCode:
    """Run an operation and print its result as NDJSON; with --json the job's result alone."""
    if (file and (topic or since or until)) or not (file or topic or (since and until)):
        raise click.UsageError("say --file, --topic, or --since and --until")
    if prefix is not None and (file or topic):
        raise click.UsageError("--prefix is of accesses alone")
    if other is not None and file is None:
        raise click.UsageError("--with goes with --file")
    with connect() as client:
        if file is not None:
            job = _over_files(client, operation, file, other, recipe)
        elif topic:
            kept = {"name": topic, "since": since, "until": until}
            job = _over_stored(client, operation, {"topic": kept}, recipe)
        else:
            span = {"since": since, "until": until, "prefix": prefix or ""}
            job = _over_stored(client, operation, {"accesses": span}, recipe)
        ended = follow(client, job, wait=True, timeout=timeout)
        if output or not as_json:
            with output.open("wb") if output else nullcontext(sys.stdout.buffer) as out:
                for page in client.batch_lines(ended):
                    out.write(page)
    return _told(ended, as_json)


def _over_files(client: Client, operation: str, file: BinaryIO, other: BinaryIO | None, recipe: Json) -> Json:
    lines = _lines(file)
    left = None if other is None else len(lines)
    both = lines + (_lines(other) if other else [])
    buffer = io.BytesIO()
    with gzip.GzipFile(fileobj=buffer, mode="wb", compresslevel=3) as packed:
        packed.writelines(line + b"\n" for line in both)
    return client.start_batch_over(operation, buffer.getvalue(), left=left, **recipe)


def _over_stored(client: Client, operation: str, stream: Json, recipe: Json) -> Json:
    groups = recipe.pop("group_by")
    split = None if groups is None else [name for name in groups.split(",") if name]
    return client.start_batch(operation, **stream, group_by=split, **recipe)


def _lines(file: BinaryIO) -> list[bytes]:
    """The file's lines that are not empty; unpacked where it is gzip."""
    content = file.read()
    if content[:2] == GZIP_MAGIC:
        content = gzip.decompress(content)
    return [line.strip() for line in content.split(b"\n") if line.strip()]


def _told(job: Json, as_json: bool) -> ExitCode:
    result = job["result"]
    if as_json:
        print_json(result)
    click.echo(f"{result['lines']} lines by {result['engine']}: {safe(result['why'])}", err=True)
    if result["left_out"]:
        first = result["errors"][0]
        said = f"{first['pointer']} {first['detail']}"
        click.echo(f"{result['left_out']} events were left out; the first: {safe(said)}", err=True)
    return ExitCode.PARTIAL if result["left_out"] else ExitCode.OK


@batch.command()
@json_option
def engine(as_json: bool) -> None:
    """Tell which engine runs batch operations, and why."""
    with connect() as client:
        found = client.batch_engine()
    fields: Columns = {
        "engine": "engine",
        "why": "why",
        "Spark's master": lambda item: item["spark"]["master"],
        "PySpark": lambda item: item["spark"]["pyspark"],
        "Java": lambda item: item["spark"]["java"],
        "problem": lambda item: item["spark"]["problem"],
    }
    print_item(found, fields, as_json=as_json)
