"""`foretide models predict-batch`: scores objects, or a file of any length block by block, in jobs."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import BinaryIO

import click

from app.cli.arguments import NewFile, blocks_of
from app.cli.output import Json, safe
from app.cli.session import connect, follow
from app.client import Client
from app.domain.general_models import RESERVED
from app.errors import ExitCode, FieldError, Invalid, pointer_to


@click.command("predict-batch")
@click.argument("name", default="tier")
@click.option("--prefix", help="Only objects whose keys begin so; all of them otherwise.")
@click.option("--file", type=click.File("rb"), help="Score the rows of this file (- for stdin) instead, one a line.")
@click.option("--output", type=NewFile(), help="Write the lines to this file instead of stdout.")
@click.option("--timeout", type=click.FloatRange(min=0), help="Seconds to wait for each job; exit code 10 after them.")
def predict_batch(
    name: str, prefix: str | None, file: BinaryIO | None, output: Path | None, timeout: float | None
) -> ExitCode:
    """Score all objects, those of a prefix, or rows of a file, in jobs; prints NDJSON, a line an object or row.

    A file may have any length: each 10,000 rows of it are a job, and its lines are written before the next is sent.
    """
    if file and prefix is not None:
        raise click.UsageError("say --file or --prefix")
    lines, used = 0, "no version"
    with connect() as client, output.open("wb") if output else nullcontext(sys.stdout.buffer) as out:
        for first, job in _jobs(client, name, prefix, file):
            result = follow(client, job, wait=True, timeout=timeout)["result"]
            if result.get("refused"):
                click.echo(f"refused: {safe(result['refused'])}; version {result['version']} scored instead", err=True)
            for number in range(1, result["pages"] + 1):
                page = client.batch_page(name, job["id"], number)
                out.write(_counted_from(page, first) if first > 1 and name in RESERVED else page)
            out.flush()
            lines, used = lines + result["lines"], f"{name} {result['version']}"
    click.echo(f"{lines} lines by {safe(used)}", err=True)
    return ExitCode.OK


def _jobs(client: Client, name: str, prefix: str | None, file: BinaryIO | None) -> Iterator[tuple[int, Json]]:
    """Each job with the number of its first line in the file."""
    if file is None:
        yield 1, client.predict_batch(name, prefix=prefix)
        return
    for first, rows in blocks_of(file):
        try:
            job = client.predict_batch(name, rows=rows)
        except Invalid as error:
            raise _in_the_file(error, first) from error
        yield first, job


def _in_the_file(error: Invalid, first: int) -> Invalid:
    """The pointers of a block, of which /rows/0 is line `first`, as pointers into the whole file."""
    moved = []
    for each in error.errors:
        _, *parts = each.pointer.split("/")
        if len(parts) > 1 and parts[0] == "rows" and parts[1].isdecimal():
            each = FieldError(
                pointer_to("rows", first - 1 + int(parts[1])) + each.pointer[len("/rows/" + parts[1]) :], each.detail
            )
        moved.append(each)
    return Invalid(error.detail, reason=error.reason, errors=tuple(moved))


def _counted_from(page: bytes, first: int) -> bytes:
    """The lines of a block, whose keys are the numbers of its rows, with those of the rows in the file."""
    told = [json.loads(line) for line in page.splitlines()]
    return b"".join(json.dumps({**line, "key": str(int(line["key"]) + first - 1)}).encode() + b"\n" for line in told)
