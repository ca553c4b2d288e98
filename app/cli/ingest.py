"""`foretide ingest`: sends accesses from files, folders or a pipe and reports each line that was refused."""

from __future__ import annotations

import glob
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from app.cli.inventory import inventory
from app.cli.output import json_option, print_json, safe
from app.cli.session import connect
from app.errors import ExitCode

if TYPE_CHECKING:
    from app.cli.importing import Import, Report
    from app.lab.parts import Source

SHOWN = 20
TOLD_EVERY_S = 10.0
STDIN = "-"
PATH = click.Path(dir_okay=False, path_type=Path)
KINDS = {
    "ndjson": "One JSON object a line, as POST /v1/accesses takes it.",
    "parquet": "Parquet or CSV with object, bytes and ts or date, at will op, size, region.",
    "s3-access-logs": "Server access logs of S3.",
    "cloudfront": "Standard logs of CloudFront: W3C or JSON.",
    "gcs-logs": "Usage logs of Cloud Storage.",
    "azure-logs": "Logs of Azure Blob Storage: analytics logs, or resource logs as JSON.",
    "nginx": "Access logs of nginx or Apache in the common or combined format.",
    "apache": "The same as nginx.",
}
LOGS = tuple(kind for kind in KINDS if kind not in ("ndjson", "parquet", "apache"))
FILES = """

    FILES may be folders, patterns and - for stdin; logs may be packed by gzip, zstd, bzip2 or xz. Run again after an
    interruption, it goes on where the API had taken everything; what is sent twice counts once."""


@click.group()
def ingest() -> None:
    """Send accesses from files, folders or a pipe, or the objects of an inventory."""


def _options(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in (
        click.option("--strict", is_flag=True, help="End at the first refused line, and send nothing of its block."),
        click.option("--rejected", type=PATH, help="Write refused lines to this file."),
        click.option("--dry-run", is_flag=True, help="Read and report; send nothing."),
        click.option("--again", is_flag=True, help="Send what was imported before, too; it counts as duplicates."),
        click.option("--state", type=PATH, help="The file in which to remember what was sent."),
        click.option("--source", default="", help="Who wrote the logs: tells apart equal lines of several servers."),
        json_option,
    ):
        command = option(command)
    return command


def _verb(kind: str, told: str) -> None:
    """Adds the verb that sends files of a kind."""

    @_options
    def send(files: tuple[str, ...], site: str | None = None, source: str = "", **options: Any) -> ExitCode:
        from app.lab.parts import Source

        return _run(_expanded(files), Source(kind, source, site), **options)

    if kind != "ndjson":
        send = click.option("--site", help="The site that the accesses were made at.")(send)
    argument = click.argument("files", nargs=-1, required=True)
    ingest.command(kind, help=f"{told}{FILES}", short_help=told)(argument(send))


for _kind, _told in KINDS.items():
    _verb(_kind, _told)
ingest.add_command(inventory)


def _expanded(given: Sequence[str]) -> list[Path]:
    """Files, those of folders and those that match patterns, each once. Raises UsageError for what is none of these."""
    found: dict[Path, None] = {}
    for name in given:
        path = Path(name)
        if path.is_dir():
            inside = sorted(each for each in path.rglob("*") if each.is_file() and not each.name.startswith("."))
        elif name == STDIN or path.is_file():
            inside = [path]
        else:
            matching = glob.glob(name, recursive=True)  # noqa: PTH207 - absolute or not
            inside = sorted(Path(each) for each in matching if Path(each).is_file())
        if not inside:
            said = "is no file or folder; - reads a pipe" if path.exists() and not path.is_dir() else "holds no file"
            raise click.UsageError(f"{name} {said}" if path.exists() else f"there is no file {name}")
        found |= dict.fromkeys(inside)
    return list(found)


def _run(
    files: list[Path],
    source: Source,
    *,
    strict: bool,
    rejected: Path | None,
    dry_run: bool,
    again: bool,
    state: Path | None,
    as_json: bool,
) -> ExitCode:
    from app.cli.import_state import Journal, journal_path
    from app.cli.importing import Import
    from app.lab.imports import check
    from app.settings import get_settings

    for path in files[:1] if len(files) > SHOWN else files:
        check(path, source.kind)
    with ExitStack() as stack:
        client = None if dry_run else stack.enter_context(connect())
        journal = None
        if client and not again:
            journal = Journal(state or journal_path(get_settings().state_dir, client.url, source))
        refused = stack.enter_context(rejected.open("w")) if rejected else None
        work = Import(files, source, client, journal, strict=strict, rejected=refused)
        try:
            _follow(work, files)
        except BaseException:
            _tell_partial(work.report, remembered=journal is not None)
            raise
    return _tell(work.report, as_json=as_json, dry_run=dry_run)


def _follow(work: Import, files: Sequence[Path]) -> None:
    """Runs the import, with a bar on a terminal and a line now and then elsewhere."""
    total = sum(path.stat().st_size for path in files if str(path) != STDIN)
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

        shown = TextColumn("{task.fields[told]}")
        columns = (BarColumn(), DownloadColumn(binary_units=True), shown, TimeRemainingColumn())
        with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task("", total=total or None, told="")
            started = time.monotonic()
            for report in work.run():
                rate = report.lines / max(time.monotonic() - started, 1e-3)
                told = f"{report.lines:,} lines, {rate:,.0f} lines/s"
                bar.update(task, completed=sum(report.read.values()), told=told)
        return
    started = last = time.monotonic()
    for report in work.run():
        now = time.monotonic()
        if now - last >= TOLD_EVERY_S:
            last = now
            share = f", {100 * sum(report.read.values()) / total:.0f} %" if total else ""
            click.echo(f"{report.lines} lines{share}, {report.lines / (now - started):.0f} lines/s", err=True)


def _tell_partial(report: Report, *, remembered: bool) -> None:
    """Says what was done before an interruption, and how to go on."""
    if report.lines:
        click.echo(f"until then: {_counts(report)}", err=True)
    again = "goes on behind what was taken" if remembered else "sends all again; what was taken counts once"
    click.echo(f"the same command {again}", err=True)


def _counts(report: Report) -> str:
    passed = f", passed over {report.passed_over}" if report.passed_over else ""
    return f"accepted {report.accepted}, duplicates {report.duplicates}, rejected {report.rejected}{passed}"


def _tell(report: Report, *, as_json: bool, dry_run: bool) -> ExitCode:
    """Reports; refused lines make it exit code 7."""
    if report.uncounted:
        more = f"{report.uncounted} more that count tells of are not"
        click.echo(f"each row is sent as one access: {more}", err=True)
    if as_json:
        print_json({name: value for name, value in vars(report).items() if name != "read"})
    elif dry_run:
        accesses = report.lines - report.rejected - report.passed_over
        told = f"rejected {report.rejected}, passed over {report.passed_over}"
        click.echo(f"{accesses} accesses, {told}; nothing was sent")
    else:
        click.echo(_counts(report))
    if report.skipped_files:
        click.echo(f"{report.skipped_files} files were imported before; --again sends them, too", err=True)
    several = report.files > 1
    for error in report.errors[:SHOWN]:
        place = f"{safe(error['file'])} line {error['line']}" if several else f"line {error['line']}"
        pointer = f" {safe(error['pointer'])}" if error["pointer"] else ""
        click.echo(f"{place}:{pointer} {safe(error['detail'])}", err=True)
    if report.rejected > SHOWN:
        click.echo(f"… and {report.rejected - SHOWN} more; --rejected FILE writes them all", err=True)
    return ExitCode.PARTIAL if report.rejected else ExitCode.OK
