"""`foretide aggregate`: sends samples of metrics, shows windows of them and what weighs most in them."""

from __future__ import annotations

from collections.abc import Callable
from typing import IO, Any

import click

from app.cli.arguments import Finite
from app.cli.lines import ingest_options, tell, tell_errors, unpacked
from app.cli.output import Columns, Json, json_option, print_item, print_json, print_rows, when_of
from app.cli.session import agreed, connect, yes_options
from app.domain.metrics import DEFAULT_K, DEFAULT_WINDOW_S
from app.errors import ExitCode

NUMBERS = ("count", "mean", "min", "max", "stddev", "p50", "p90", "p95", "p99", "rate")
COLUMNS: Columns = {"NAME": "name", "GROUP": "group", **{name.upper(): name for name in NUMBERS}}
FIELDS: Columns = {
    "name": "name",
    "group": "group",
    "since": when_of("since"),
    "as of": when_of("as_of"),
    **{name: name for name in ("count", "sum", "mean", "min", "max", "variance", "stddev")},
    **{name: lambda item, name=name: _between(item, name) for name in ("p50", "p90", "p95", "p99")},  # type: ignore[misc]
    "bound of ranks": lambda item: f"{item['error_bound']['rank']:.2%}",
    "rate": lambda item: f"{item['rate']:.4g} a second",
    "total events": "total_events",
}


def window_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds --window."""
    told = "Seconds that the window reaches back."
    return click.option("--window", type=Finite(min=1), default=DEFAULT_WINDOW_S, show_default=True, help=told)(command)


@click.group()
def aggregate() -> None:
    """Send samples of metrics, and show their windows and what weighs most."""


@aggregate.command()
@click.argument("file", type=click.File("rb"))
@ingest_options
def add(file: IO[bytes], strict: bool, as_json: bool) -> ExitCode:
    """Send FILE (- for stdin), plain or gzip: one sample a line, as POST /v1/metrics takes it."""
    with connect() as client:
        report = client.add_samples(unpacked(file), strict=strict, on_block=tell)
    if as_json:
        print_json({"accepted": report.accepted, "rejected": report.rejected, "errors": report.errors})
    else:
        click.echo(f"accepted {report.accepted}, rejected {report.rejected}")
    tell_errors(report, "line")
    return ExitCode.PARTIAL if report.rejected else ExitCode.OK


@aggregate.command()
@click.argument("name")
@click.option("--group", help="Of this group alone.")
@click.option("--groups", is_flag=True, help="One line a group.")
@window_option
@json_option
def show(name: str, group: str | None, groups: bool, window: float, as_json: bool) -> None:
    """Show the window of a metric: over all its groups, of one, or of each."""
    if groups and group is not None:
        raise click.UsageError("give --group or --groups")
    with connect() as client:
        if groups:
            print_rows(client.metric_groups(name, window), COLUMNS, as_json=as_json, nothing="It has no groups.")
        else:
            print_item(client.metric(name, group=group, window=window), FIELDS, as_json=as_json)


@aggregate.command("list")
@window_option
@json_option
def list_metrics(window: float, as_json: bool) -> None:
    """List every metric and group with its window."""
    with connect() as client:
        nothing = "There are no samples. Next: foretide aggregate add FILE"
        print_rows(client.metrics(window), COLUMNS, as_json=as_json, nothing=nothing)


@aggregate.command()
@click.argument("name")
@click.option("--by", type=click.Choice(["group", "item"]), default="group", show_default=True)
@click.option("--k", type=click.IntRange(1, 1000), default=DEFAULT_K, show_default=True, help="How many.")
@window_option
@json_option
def top(name: str, by: str, k: int, window: float, as_json: bool) -> None:
    """Show what weighs most in a metric: groups by the sums of their values, or items."""
    with connect() as client:
        found = client.top(name, by=by, k=k, window=window)
    if as_json:
        print_json(found)
        return
    print_rows(found["items"], {by.upper(): by, "WEIGHT": "weight"}, as_json=False, nothing="Nothing weighs anything.")
    if found["error_bound"]:
        click.echo(f"each may weigh up to {found['error_bound']:.4g} more", err=True)


@aggregate.command()
@click.argument("name")
@yes_options
def reset(name: str, yes: bool, dry_run: bool) -> None:
    """Remove a metric's samples, those of all its groups."""
    with connect() as client:
        client.metric(name)  # one that is not there is told before anything is asked
        if agreed(f"remove the samples of {name}", yes=yes, dry_run=dry_run):
            client.reset_metric(name)


def _between(item: Json, name: str) -> str | None:
    """A percentile and, where it is not exact, between which values it lies."""
    if item[name] is None:
        return None
    low, high = item["error_bound"][name]
    return f"{item[name]:.6g}" + ("" if low == high else f" ({low:.6g} to {high:.6g})")
