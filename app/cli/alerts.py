"""`foretide alerts`: what a person should know."""

from __future__ import annotations

from itertools import islice

import click

from app.cli.output import Columns, json_option, print_rows, when_of
from app.cli.session import connect
from app.domain.states import AlertState

COLUMNS: Columns = {
    "ID": "id",
    "SEVERITY": "severity",
    "STATE": "state",
    "KIND": "kind",
    "SUBJECT": "subject",
    "COUNT": "count",
    "LAST": when_of("last_at"),
    "MESSAGE": "message",
}


@click.group()
def alerts() -> None:
    """List, acknowledge and resolve alerts."""


@alerts.command("list")
@click.option("--state", type=click.Choice([state.value for state in AlertState]), help="Only those in this state.")
@click.option("--limit", type=click.IntRange(min=1), default=100, show_default=True, help="At most so many.")
@json_option
def list_alerts(state: str | None, limit: int, as_json: bool) -> None:
    """List alerts, newest first."""
    with connect() as client:
        found = islice(client.alerts(state=state), limit)
        print_rows(found, COLUMNS, as_json=as_json, nothing="No alert: nothing needs you.")


@alerts.command()
@click.argument("alert_id", type=int)
def ack(alert_id: int) -> None:
    """Acknowledge: somebody looks after it."""
    with connect() as client:
        click.echo(f"alert {alert_id} {client.change_alert(alert_id, 'ack')['state']}")


@alerts.command()
@click.argument("alert_id", type=int)
def resolve(alert_id: int) -> None:
    """Resolve: it is over; it comes back when its cause does."""
    with connect() as client:
        click.echo(f"alert {alert_id} {client.change_alert(alert_id, 'resolve')['state']}")
