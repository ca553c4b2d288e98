"""A command's dealings with the API: opens the SDK, follows a job with progress, asks before it acts."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from app.cli.output import Json, print_json, safe
from app.errors import ExitCode

if TYPE_CHECKING:
    from rich.progress import Progress

    from app.client import Client


def connect() -> Client:
    """The SDK on the API of the settings or of the running stack; loaded here, so that --help is quick."""
    from app.client import Client

    return Client()


def wait_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds --wait/--no-wait, --timeout and --json to a command that starts a job."""
    from app.cli.output import json_option

    timeout = click.option("--timeout", type=click.FloatRange(min=0), help="Seconds to wait; exit code 10 after them.")
    wait = click.option("--wait/--no-wait", default=True, help="Wait for the job's end (default) or print it at once.")
    return json_option(wait(timeout(command)))


def yes_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds --yes and --dry-run to a command that changes what is hard to change back."""
    dry_run = click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing.")
    return click.option("--yes", "-y", is_flag=True, help="Do not ask.")(dry_run(command))


def agreed(effect: str, *, yes: bool, dry_run: bool = False) -> bool:
    """Whether to go on with what `effect` says. Without a terminal and --yes a usage error: nobody would answer."""
    if dry_run:
        click.echo(f"Would {effect}.", err=True)
        return False
    if yes:
        return True
    if not sys.stdin.isatty():
        raise click.UsageError(f"this would {effect}; without a terminal, say --yes")
    return click.confirm(f"This will {effect}. Go on?", err=True)


def follow(client: Client, job: Json, *, wait: bool, timeout: float | None) -> Json:
    """The job, at its end when `wait` says so; progress goes to stderr. Raises what ended the job, and WaitTimeout."""
    if not wait:
        return job
    if not sys.stderr.isatty():
        return client.wait(job, timeout_s=timeout, on_change=_Lines())
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[told]}"), TimeElapsedColumn())
    from rich.console import Console

    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        return client.wait(job, timeout_s=timeout, on_change=_Bar(bar))


def finish(client: Client, job: Json, *, wait: bool, timeout: float | None, as_json: bool) -> Json:
    """Follows a job and prints it: as JSON, else its state and result in one line."""
    ended = follow(client, job, wait=wait, timeout=timeout)
    if as_json:
        print_json(ended)
    else:
        click.echo(f"job {ended['id']} {ended['state']}{_told(ended)}")
        if not wait:
            click.echo(f"Next: foretide jobs wait {ended['id']}", err=True)
    return ended


def proven(job: Json) -> ExitCode:
    """How a command ends that looked at replicas: partial when some are not as they should be."""
    result = job.get("result") or {}
    return ExitCode.PARTIAL if any(result.get(name) for name in ("corrupt", "missing", "misread")) else ExitCode.OK


def _told(job: Json) -> str:
    result = job.get("result")
    facts = {k: v for k, v in result.items() if not isinstance(v, dict | list)} if isinstance(result, dict) else {}
    return "".join(f"  {safe(name)}={safe(value)}" for name, value in facts.items())


def _progress(job: Json) -> str:
    progress = job.get("progress") or {}
    if progress.get("total"):
        return f"{progress.get('done', 0)} of {progress['total']} {safe(progress.get('unit', ''))}".rstrip()
    return safe(job.get("reason") or "")


class _Lines:
    """Progress where there is no terminal: a line when the job's state or progress has changed."""

    def __init__(self) -> None:
        self._last = ""

    def __call__(self, job: Json) -> None:
        line = f"job {job['id']} {job['kind']} {job['state']} {_progress(job)}".rstrip()
        if line != self._last:
            click.echo(line, err=True)
            self._last = line


class _Bar:
    """Progress on a terminal."""

    def __init__(self, bar: Progress) -> None:
        self._bar = bar
        self._row = bar.add_task("", total=None, told="")

    def __call__(self, job: Json) -> None:
        progress = job.get("progress") or {}
        self._bar.update(
            self._row,
            description=f"{job['kind']} {job['state']}",
            completed=progress.get("done", 0),
            total=progress.get("total"),
            told=_progress(job),
        )
