"""`foretide ingest`: sends accesses from a file or a pipe and reports each line that was refused."""

from __future__ import annotations

import gzip
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click

from app.cli.output import json_option, print_json, safe
from app.cli.session import connect
from app.errors import ExitCode, Invalid

if TYPE_CHECKING:
    from app.blocks import IngestReport

SHOWN = 20
GZIP_MAGIC = b"\x1f\x8b"


def ingest_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds --strict and --json."""
    strict = click.option("--strict", is_flag=True, help="Refuse a whole block of 5,000 lines for one bad line.")
    return json_option(strict(command))


@click.group()
def ingest() -> None:
    """Send accesses from a file or a pipe."""


@ingest.command()
@click.argument("file", type=click.File("rb"))
@ingest_options
def ndjson(file: IO[bytes], strict: bool, as_json: bool) -> ExitCode:
    """Send FILE (- for stdin), plain or gzip: one access a line, as POST /v1/accesses takes it."""
    return _send(unpacked(file), strict=strict, as_json=as_json)


LOGS = {
    "parquet": "Send FILE, Parquet or CSV with object, bytes and ts or date, at will op, size, region.",
    "s3-access-logs": "Send FILE, server access logs of S3, plain or gzip.",
    "cloudfront": "Send FILE, standard logs of CloudFront, plain or gzip.",
    "gcs-logs": "Send FILE, usage logs of Cloud Storage, plain or gzip.",
    "azure-logs": "Send FILE, logs of Azure Blob Storage: analytics logs, or resource logs as JSON, plain or gzip.",
    "nginx": "Send FILE, access logs of nginx in the combined format, plain or gzip.",
}


def _file_verb(name: str, told: str) -> None:
    """Adds the verb that sends files of a format."""

    @ingest.command(name, help=told, short_help=told)
    @click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
    @ingest_options
    def send(file: Path, strict: bool, as_json: bool) -> ExitCode:
        from app.lab.traces import read_trace

        trace = read_trace(file, None if name == "parquet" else name)
        for rejected in trace.rejected:
            click.echo(f"line {rejected.line}: {safe(rejected.detail)}", err=True)
        if trace.uncounted:
            click.echo(f"each row is sent as one access: {trace.uncounted} more that count tells of are not", err=True)
        lines = (line for block in trace.ndjson(file.stem) for line in block.splitlines())
        return _send(lines, strict=strict, as_json=as_json, what="access", unread=trace.rejected_total)


for _name, _told in LOGS.items():
    _file_verb(_name, _told)


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


def _send(
    lines: Iterable[str | bytes | Mapping[str, Any]],
    *,
    strict: bool,
    as_json: bool,
    what: str = "line",
    unread: int = 0,
) -> ExitCode:
    """Sends and reports; refused lines make it exit code 7.

    what: of what the API's numbers are; unread: lines of the file that were no access, and are not sent.
    """
    with connect() as client:
        report = client.ingest(lines, strict=strict, on_block=tell)
    if as_json:
        print_json(vars(report) | {"unread": unread})
    else:
        passed = f", unread {unread}" if unread else ""
        click.echo(f"accepted {report.accepted}, duplicates {report.duplicates}, rejected {report.rejected}{passed}")
    tell_errors(report, what)
    return ExitCode.PARTIAL if report.rejected or unread else ExitCode.OK


def tell_errors(report: IngestReport, what: str) -> None:
    """The first lines that were refused. what: the word for a line."""
    for error in report.errors[:SHOWN]:
        click.echo(f"{what} {error['line']}: {safe(error['pointer'])} {safe(error['detail'])}", err=True)
    if len(report.errors) > SHOWN:
        click.echo(f"… and {len(report.errors) - SHOWN} more; --json lists them all", err=True)


def tell(report: IngestReport) -> None:
    """Shows how far it is: each block on a terminal, else now and then."""
    if sys.stderr.isatty():
        click.echo(f"\r{report.lines:,} lines", nl=False, err=True)
    elif report.lines % 100_000 < 5000:
        click.echo(f"{report.lines} lines", err=True)
