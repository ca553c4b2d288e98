"""`foretide up`: runs the services on a state folder that survives restarts, until it is told to stop."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import click

from app.errors import ExitCode

if TYPE_CHECKING:
    from app.devstack.parts import Component
    from app.devstack.services import Endpoints


@click.command()
def up() -> int:
    """Run Postgres, Valkey, three S3 sites, the API, a worker, beat and Flower; Ctrl-C stops them.

    Data, passwords and tokens are kept in FORETIDE_STATE_DIR/up. A part whose URL is set in the environment is used
    instead of an embedded one.
    """
    from app.devstack.guard import guarded

    return guarded(run)


def run() -> int:
    """Start everything, say where it is, and wait for the signal to stop."""
    from app.devstack import state
    from app.devstack.sites import register
    from app.devstack.stack import Stack
    from app.settings import get_settings

    state_dir = state.prepare(get_settings().state_dir)
    with Stack(state.StateFolder.kept(state_dir)) as stack:
        for component in stack.components:
            click.echo(line(component))
        stack.adopt()
        endpoints = stack.serve()
        register(endpoints, stack.sites)
        stack.supervise(lambda text: click.echo(text, err=True))
        state.announce(state_dir, endpoints.note())
        try:
            tell(endpoints)
            wait()
        finally:
            state.withdraw(state_dir)
    return ExitCode.OK


def wait() -> None:
    """Wait for Ctrl-C, which is how this ends well."""
    try:
        while True:
            signal.pause()
    except KeyboardInterrupt:
        click.echo("stopping", err=True)


def line(component: Component) -> str:
    """A component's line."""
    return f"{component.name:16} {component.mode} {component.version:16} {component.address}"


def tell(endpoints: Endpoints) -> None:
    """Say where everything is."""
    click.echo(f"{'api':16} {endpoints.url}   dashboard /ui/   docs /docs")
    click.echo(f"{'flower':16} {endpoints.flower_url}   {endpoints.flower_user} / {endpoints.flower_password}")
    click.echo(f"{'token':16} export TOKEN={endpoints.token}")
    click.echo("Ctrl-C stops everything; what is stored stays.")
