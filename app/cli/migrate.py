"""`foretide migrate`: the moves under way, why one waits or failed, and how to try it again."""

from __future__ import annotations

import json
from itertools import islice

import click

from app.cli.output import Columns, Json, json_option, print_item, print_json, print_rows, safe, size, when_of
from app.cli.policy import changed, parse
from app.cli.session import agreed, connect, finish, proven, wait_options, yes_options
from app.domain.states import MigrationState, TeeState
from app.errors import ExitCode


def _done(item: Json) -> str:
    return f"{size(item.get('bytes_done'))} of {size(item.get('bytes_total'))}"


def _copied(item: Json) -> str | None:
    """Who copied it: the engine, unless a reader's copy was adopted or may come yet."""
    told = {TeeState.ADOPTED: "by tee", TeeState.OFFERED: "offered to a reader", TeeState.WRITTEN: "by tee, not proven"}
    refused = {TeeState.FAILED: "by a worker, the tee failed", TeeState.REFUSED: "by a worker, the tee was refused"}
    return {**told, **refused}[TeeState(item["tee"])] if item.get("tee") else None


COLUMNS: Columns = {
    "ID": "id",
    "STATE": "state",
    "REASON": "reason",
    "KIND": "kind",
    "KEY": "key",
    "FROM": "from_site",
    "TO": "to_site",
    "CLASS": "to_class",
    "BYTES": _done,
    "RETRIES": "retries",
}
FIELDS: Columns = {
    **COLUMNS,
    "ATTEMPTS": "attempts",
    "VERIFIED": when_of("verified_at"),
    "SWITCHED": when_of("switched_at"),
    "FINISHED": when_of("finished_at"),
    "SHA-256": "sha256",
    "COPIED": _copied,
    "PROBLEM": "problem",
}


@click.group()
def migrate() -> None:
    """Watch moves under way, retry or cancel them."""


@migrate.command("list")
@click.option("--state", type=click.Choice([state.value for state in MigrationState]), help="Only those in this state.")
@click.option("--plan", "plan_id", type=int, help="Only those of this plan.")
@click.option("--limit", type=click.IntRange(min=1), default=100, show_default=True, help="At most so many.")
@json_option
def list_migrations(limit: int, as_json: bool, **filters: str | int | None) -> None:
    """List migrations, newest first."""
    with connect() as client:
        nothing = "No migration matches. Next: foretide plan"
        print_rows(islice(client.migrations(**filters), limit), COLUMNS, as_json=as_json, nothing=nothing)


@migrate.command()
@click.argument("migration_id", type=int)
@json_option
def show(migration_id: int, as_json: bool) -> None:
    """Show a migration."""
    with connect() as client:
        print_item(client.migration(migration_id), FIELDS, as_json=as_json)


@migrate.command()
@click.argument("migration_id", type=int)
@json_option
def retry(migration_id: int, as_json: bool) -> None:
    """Give a migration that ended without its copy all its attempts again."""
    with connect() as client:
        print_item(client.change_migration(migration_id, "retry"), FIELDS, as_json=as_json)


@migrate.command()
@click.argument("migration_id", type=int)
@yes_options
def cancel(migration_id: int, yes: bool, dry_run: bool) -> None:
    """Stop a migration before its switch; the source stays what is read."""
    with connect() as client:
        found = client.migration(migration_id)
        if agreed(f"cancel migration {migration_id} ({found['state']})", yes=yes, dry_run=dry_run):
            click.echo(f"migration {migration_id} {client.change_migration(migration_id, 'cancel')['state']}")


@migrate.command()
@click.argument("migration_id", type=int)
@click.option("--dry-run", is_flag=True, help="Only tell what reading costs at most.")
@wait_options
def verify(migration_id: int, dry_run: bool, wait: bool, timeout: float | None, as_json: bool) -> ExitCode:
    """Read the replicas of a migration's object again and compare them with what was recorded."""
    with connect() as client:
        started = client.verify_migration(migration_id, dry_run=dry_run)
        return proven(finish(client, started, wait=wait, timeout=timeout, as_json=as_json))


@migrate.command()
@click.argument("reason")
@click.option("--job", "job_id", type=int, help="Only this job's moves.")
@yes_options
def pause(reason: str, job_id: int | None, yes: bool, dry_run: bool) -> None:
    """Stop all moves, or one job's, before their next step or part."""
    with connect() as client:
        if agreed(f"pause {_which(job_id)}: {reason}", yes=yes, dry_run=dry_run):
            paused = client.pause_migrations(reason, job_id)
            click.echo(f"paused: {safe(paused['reason'])}; {paused['waiting']} waiting")
            click.echo("Next: foretide migrate resume" + (f" --job {job_id}" if job_id else ""), err=True)


@migrate.command()
@click.option("--job", "job_id", type=int, help="Only this job's moves.")
@yes_options
def resume(job_id: int | None, yes: bool, dry_run: bool) -> None:
    """Let paused moves go on."""
    with connect() as client:
        if agreed(f"resume {_which(job_id)}", yes=yes, dry_run=dry_run):
            click.echo(f"resumed: {len(client.resume_migrations(job_id)['jobs'])} jobs go on")


@migrate.command()
@click.argument("fields", nargs=-1, metavar="[DOCUMENT | FIELD=VALUE…]")
@yes_options
def limits(fields: tuple[str, ...], yes: bool, dry_run: bool) -> None:
    """Show the limits of moves, or set some: requests_per_s=50 sites.aws-eu.concurrency=4 canary_moves=32."""
    with connect() as client:
        document, etag = client.limits()
        if not fields:
            print_json(document)
            return
        new = parse(fields[0]) if fields[0].lstrip().startswith("{") else changed(document, fields)
        if agreed(f"set the limits of moves to {json.dumps(new)}", yes=yes, dry_run=dry_run):
            print_json(client.set_limits(new, etag))


def _which(job_id: int | None) -> str:
    return f"the moves of job {job_id}" if job_id else "all moves"
