"""`foretide demo`: the whole main job on this machine, from nothing, with every figure computed."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from app.cli.output import json_option
from app.errors import ExitCode

if TYPE_CHECKING:
    from app.devstack.demo import Progress

NEXT = "Next: ./foretide explain KEY · ./foretide plan show {plan} · ./foretide objects list · Ctrl-C stops everything"

TRACE = "Parquet or CSV: object, bytes, ts or date[, op, size, region]; or an access log."


@click.command()
@click.option("--exit", "leave", is_flag=True, help="Stop everything after the job; status 0 when nothing failed.")
@click.option("--trace", type=click.Path(path_type=Path), help=TRACE)
@click.option("--objects", type=click.IntRange(10, 2000), default=240, show_default=True, help="Made-up objects.")
@click.option("--seed", type=int, default=1, show_default=True, help="Of what is made up.")
@json_option
def demo(leave: bool, trace: Path | None, objects: int, seed: int, as_json: bool) -> int:
    """Start every part on this machine, ingest accesses, train, plan, migrate and read; then stay up.

    Nothing is needed beside Python. With --json progress goes to stderr and the last thing on stdout is the report.
    """
    from app.devstack.guard import guarded

    return guarded(lambda: run(leave, trace, objects, seed, as_json))


def run(leave: bool, trace: Path | None, objects: int, seed: int, as_json: bool) -> int:
    """The demo in the guarded process."""
    from app.cli.up import wait
    from app.devstack.demo import Demo

    this = Demo(trace, objects, seed, lambda line: click.echo(line, err=as_json), _progress())
    with this.running() as report:
        failed = report.migrations["failed"] or report.migrations["verified"] < report.migrations["planned"]
        if as_json:
            click.echo(json.dumps(asdict(report), indent=2))
        if not leave:
            click.echo(NEXT.format(plan=this.plan_id), err=as_json)
            wait()
    return ExitCode.FAILED if failed else ExitCode.OK


def _progress() -> Progress:
    """On a terminal a line that is rewritten; elsewhere nothing, since each step says its own result."""

    def show(what: str, done: int, of: int) -> None:
        click.echo(f"\r\x1b[2K      {what} {done} of {of}", nl=False, err=True)
        if done >= of:
            click.echo("\r\x1b[2K", nl=False, err=True)

    return show if sys.stderr.isatty() else lambda _what, _done, _of: None
