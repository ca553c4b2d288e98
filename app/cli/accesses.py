"""`foretide accesses rebuild`: hourly sums of accesses counted anew."""

from __future__ import annotations

from datetime import datetime

import click

from app.cli.session import connect, finish, wait_options

DAY = click.DateTime(formats=["%Y-%m-%d"])


@click.group()
def accesses() -> None:
    """Count hourly sums of accesses anew."""


@accesses.command()
@click.option("--since", type=DAY, required=True, metavar="DAY", help="First UTC day, such as 2026-11-01.")
@click.option("--until", type=DAY, required=True, metavar="DAY", help="Last UTC day.")
@wait_options
def rebuild(since: datetime, until: datetime, wait: bool, timeout: float | None, as_json: bool) -> None:
    """Count the hourly sums of whole days anew from their accesses; refused where these are no longer kept."""
    with connect() as client:
        job = client.rebuild_sums(f"{since:%Y-%m-%d}", f"{until:%Y-%m-%d}")
        finish(client, job, wait=wait, timeout=timeout, as_json=as_json)
