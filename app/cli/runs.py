"""`foretide runs`: the whole cycle, from accesses to routes, or a part of it, and its steps."""

from __future__ import annotations

from itertools import islice

import click

from app.cli.output import Columns, Json, json_option, print_json, print_rows, safe, when_of
from app.cli.session import connect, follow, wait_options

STEPS = ("ingest", "features", "train", "predict", "plan", "migrate", "route")
STEP = click.Choice(STEPS)
COLUMNS: Columns = {
    "ID": "id",
    "STATE": "state",
    "REASON": "reason",
    "STARTED": when_of("created_at"),
    "BY": "created_by",
}


@click.group()
def runs() -> None:
    """Run the whole cycle, or a part, and watch its steps."""


@runs.command("list")
@click.option("--limit", type=click.IntRange(min=1), default=50, show_default=True, help="At most so many.")
@json_option
def list_runs(limit: int, as_json: bool) -> None:
    """List runs, newest first."""
    with connect() as client:
        nothing = "There are no runs yet. Next: foretide runs start"
        print_rows(islice(client.runs(), limit), COLUMNS, as_json=as_json, nothing=nothing)


@runs.command()
@click.argument("run_id", type=int)
@json_option
def show(run_id: int, as_json: bool) -> None:
    """Show a run as the graph of its steps."""
    with connect() as client:
        _print(client.run(run_id), as_json=as_json)


@runs.command()
@click.option("--from", "first", type=STEP, help="Begin with this step.")
@click.option("--to", "last", type=STEP, help="End after this step.")
@wait_options
def start(first: str | None, last: str | None, wait: bool, timeout: float | None, as_json: bool) -> None:
    """Start a run and wait for its end."""
    with connect() as client:
        job = follow(client, client.start_run(first, last), wait=wait, timeout=timeout)
        _print(client.run(job["id"]), as_json=as_json)


def _print(run: Json, *, as_json: bool) -> None:
    if as_json:
        print_json(run)
        return
    click.echo(f"run {run['id']} {run['state']}{' – ' + safe(run['reason']) if run.get('reason') else ''}")
    steps = run.get("steps") or []
    for step in steps:
        branch = "└─" if step is steps[-1] else "├─"
        counts = "  ".join(f"{safe(k)} {safe(v)}" for k, v in (step.get("counts") or {}).items())
        seconds = f"{step['seconds']:.1f} s" if isinstance(step.get("seconds"), int | float) else ""
        why = safe(step["reason"]) if step.get("reason") else ""
        click.echo(f"{branch} {step['name']:<9}{step['state']:<11}{seconds:>8}  {counts}{why}".rstrip())
