"""`foretide chaos`: makes a site fail, slow, refuse or return wrong bytes for a while, where chaos is enabled."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from app.cli.output import Columns, json_option, print_rows, when_of
from app.cli.session import agreed, connect
from app.domain.faults import DEFAULT_LATENCY_MS, DEFAULT_STATUS, DEFAULT_TTL_S, MAX_LATENCY_MS, MAX_TTL_S
from app.errors import Conflict, NotFound

if TYPE_CHECKING:
    from app.client import Client

COLUMNS: Columns = {
    "SITE": "site",
    "FAULT": "kind",
    "SHARE": "p",
    "MS": "ms",
    "STATUS": "status",
    "SECONDS LEFT": "ttl",
    "ENDS": when_of("expires_at"),
}
NONE = "No fault is in force."


@click.group()
def chaos() -> None:
    """Make sites fail, slow, refuse or lie for a while, to see that nothing is lost."""


def fault_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the site, how often and how long a fault strikes, and how to say it."""
    for option in (
        json_option,
        click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing."),
        click.option(
            "--p", type=click.FloatRange(0, 1, min_open=True), default=1.0, show_default=True,
            help="Share of the requests that meet it.",
        ),
        click.option(
            "--ttl", type=click.FloatRange(0, MAX_TTL_S, min_open=True), default=DEFAULT_TTL_S, show_default=True,
            help="Seconds until it ends by itself.",
        ),
        click.argument("site"),
    ):  # fmt: skip
        command = option(command)
    return command


@chaos.command()
@fault_options
def fail(**given: Any) -> None:
    """Let a site not answer."""
    _begin("let {site} not answer", {"fail": True}, **given)


@chaos.command()
@click.option(
    "--ms", type=click.FloatRange(0, MAX_LATENCY_MS, min_open=True), default=DEFAULT_LATENCY_MS, show_default=True,
    help="Milliseconds that each request takes longer.",
)  # fmt: skip
@fault_options
def latency(ms: float, **given: Any) -> None:
    """Slow a site down."""
    _begin(f"slow {{site}} down by {ms:g} ms", {"latency": True, "ms": ms}, **given)


@chaos.command()
@click.option(
    "--status", type=click.Choice(["429", "503"]), default=str(DEFAULT_STATUS), show_default=True,
    help="What it answers.",
)  # fmt: skip
@fault_options
def throttle(status: str, **given: Any) -> None:
    """Let a site answer that it is asked too much, with Retry-After."""
    _begin(f"let {{site}} answer {status}", {"throttle": True, "status": int(status)}, **given)


@chaos.command()
@fault_options
def corrupt(**given: Any) -> None:
    """Let a site return a wrong byte in what is read; what it keeps is not touched."""
    _begin("let {site} return wrong bytes", {"corrupt": True}, **given)


@chaos.command()
@click.argument("site")
@click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing.")
@json_option
def recover(site: str, dry_run: bool, as_json: bool) -> None:
    """End every fault of a site."""
    with _enabled() as client:
        client.site(site)
        if agreed(f"end every fault of {site}", yes=True, dry_run=dry_run):
            client.clear_faults(site)
            _print(client, as_json=as_json)


@chaos.command()
@click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing.")
@json_option
def clear(dry_run: bool, as_json: bool) -> None:
    """End every fault."""
    with _enabled() as client:
        if agreed("end every fault", yes=True, dry_run=dry_run):
            client.clear_faults()
            _print(client, as_json=as_json)


@chaos.command()
@json_option
def status(as_json: bool) -> None:
    """List the faults in force."""
    with _enabled() as client:
        _print(client, as_json=as_json)


def _begin(
    effect: str, fault: dict[str, Any], *, site: str, p: float, ttl: float, dry_run: bool, as_json: bool
) -> None:
    with _enabled() as client:
        client.site(site)
        told = f"{effect.format(site=site)} in {p:.0%} of the requests for {ttl:g} s"
        if agreed(told, yes=True, dry_run=dry_run):
            client.put_faults(site, **fault, p=p, ttl=ttl)
            _print(client, as_json=as_json)


def _print(client: Client, *, as_json: bool) -> None:
    print_rows(client.faults(), COLUMNS, as_json=as_json, nothing=NONE)


@contextmanager
def _enabled() -> Iterator[Client]:
    """The SDK. Raises Conflict where chaos is not enabled."""
    with connect() as client:
        try:
            client.faults()
        except NotFound:
            raise Conflict("chaos is not enabled there: FORETIDE_CHAOS=true, never in production") from None
        yield client
