"""What commands share that send lines of a file: how it is read, what is told of the lines."""

from __future__ import annotations

import gzip
import sys
from collections.abc import Callable, Iterator
from typing import IO, TYPE_CHECKING, Any

import click

from app.cli.output import json_option, safe
from app.errors import Invalid

if TYPE_CHECKING:
    from app.blocks import IngestReport

SHOWN = 20
GZIP_MAGIC = b"\x1f\x8b"


def ingest_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds --strict and --json."""
    strict = click.option("--strict", is_flag=True, help="Refuse a whole block of up to 50,000 lines for one bad line.")
    return json_option(strict(command))


def unpacked(file: IO[bytes]) -> Iterator[bytes]:
    """The lines of a file, plain or gzip. Raises Invalid for one that cannot be read to its end."""
    import io
    import zlib

    buffered = file if isinstance(file, io.BufferedReader) else io.BufferedReader(file)  # type: ignore[type-var]
    try:
        if buffered.peek(2)[:2] == GZIP_MAGIC:
            with gzip.open(buffered) as lines:
                yield from lines
        else:
            yield from buffered
    except (EOFError, OSError, zlib.error) as error:
        raise Invalid(f"{file.name} cannot be read to its end: {error}") from error


def tell_errors(report: IngestReport, what: str) -> None:
    """The first lines that were refused. what: the word for a line."""
    for error in report.errors[:SHOWN]:
        click.echo(f"{what} {error['line']}: {safe(error['pointer'] + ' ' + error['detail']).strip()}", err=True)
    if len(report.errors) > SHOWN:
        click.echo(f"… and {len(report.errors) - SHOWN} more; --json lists them all", err=True)


def tell(report: IngestReport) -> None:
    """Shows how far it is: each block on a terminal, else now and then."""
    if sys.stderr.isatty():
        click.echo(f"\r{report.lines:,} lines", nl=False, err=True)
    elif report.lines % 100_000 < 5000:
        click.echo(f"{report.lines} lines", err=True)
