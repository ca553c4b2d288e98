"""`foretide jobs`: what was submitted, how far it is, and how to stop it or try again."""

from __future__ import annotations

from itertools import islice

import click

from app.cli.output import Columns, json_option, print_item, print_rows, when_of
from app.cli.session import agreed, connect, finish, wait_options, yes_options
from app.domain.states import JobState

COLUMNS: Columns = {
    "ID": "id",
    "KIND": "kind",
    "STATE": "state",
    "REASON": "reason",
    "ATTEMPTS": "attempts",
    "CREATED": when_of("created_at"),
    "FINISHED": when_of("finished_at"),
}
FIELDS: Columns = {**COLUMNS, "PROGRESS": "progress", "RESULT": "result", "PROBLEM": "problem"}


@click.group()
def jobs() -> None:
    """Follow, stop and retry what was submitted."""


@jobs.command("list")
@click.option("--kind", help="Only jobs of this kind.")
@click.option("--state", type=click.Choice([state.value for state in JobState]), help="Only jobs in this state.")
@click.option("--limit", type=click.IntRange(min=1), default=50, show_default=True, help="At most so many.")
@json_option
def list_jobs(limit: int, as_json: bool, **filters: str | None) -> None:
    """List jobs, newest first."""
    with connect() as client:
        nothing = "No job matches. Next: foretide runs start"
        print_rows(islice(client.jobs(**filters), limit), COLUMNS, as_json=as_json, nothing=nothing)


@jobs.command()
@click.argument("job_id", type=int)
@json_option
def show(job_id: int, as_json: bool) -> None:
    """Show a job."""
    with connect() as client:
        print_item(client.job(job_id), FIELDS, as_json=as_json)


@jobs.command()
@click.argument("job_id", type=int)
@click.option("--timeout", type=click.FloatRange(min=0), help="Seconds to wait; exit code 10 after them.")
@json_option
def wait(job_id: int, timeout: float | None, as_json: bool) -> None:
    """Wait for a job's end; the exit code says how it ended."""
    with connect() as client:
        finish(client, client.job(job_id), wait=True, timeout=timeout, as_json=as_json)


@jobs.command()
@click.argument("job_id", type=int)
@yes_options
def cancel(job_id: int, yes: bool, dry_run: bool) -> None:
    """Ask a job and those that it started to stop."""
    with connect() as client:
        job = client.job(job_id)
        if agreed(f"cancel job {job_id} ({job['kind']}, {job['state']})", yes=yes, dry_run=dry_run):
            click.echo(f"job {job_id} {client.change_job(job_id, 'cancel')['state']}")


@jobs.command()
@click.argument("job_id", type=int)
@wait_options
def retry(job_id: int, wait: bool, timeout: float | None, as_json: bool) -> None:
    """Give a failed, dead or cancelled job all its attempts again."""
    with connect() as client:
        finish(client, client.change_job(job_id, "retry"), wait=wait, timeout=timeout, as_json=as_json)
