"""`foretide route simulate`: every routing policy over the same made-up scenarios."""

from __future__ import annotations

import sys
from typing import Any

import click

from app.cli.output import Columns, json_option, print_json, print_rows

MOST = 10_000
COLUMNS: Columns = {
    "POLICY": "name",
    "MISSES %": lambda row: f"{100 * row['misses']:.2f}",
    "× FLOOR": lambda row: f"{row['ratio_to_floor']:.2f}{_interval(row)}",
    "P50 MS": lambda row: f"{row['p50_ms']:.0f}",
    "P95 MS": lambda row: f"{row['p95_ms']:.0f}",
    "P99 MS": lambda row: f"{row['p99_ms']:.0f}",
    "AVOIDED WELL SITES %": lambda row: f"{100 * row['false_reroute_time']:.2f}",
    "HEDGES %": lambda row: f"{100 * row['hedges']:.2f}",
    "PROBES A MIN": lambda row: f"{row['probes']:.1f}",
}


def _interval(row: dict[str, Any]) -> str:
    return " [{:.2f}, {:.2f}]".format(*row["interval"]) if row["interval"] else ""


@click.command()
@click.option("--scenarios", type=click.IntRange(1, MOST), default=36, show_default=True, help="How many are played.")
@click.option("--seed", type=click.IntRange(0, 2**31 - 1), default=1, show_default=True, help="Fixes all chance.")
@json_option
def simulate(scenarios: int, seed: int, as_json: bool) -> None:
    """Play every routing policy over made-up sites and readers, paired on the same arrivals and draws.

    36 scenarios are one of each regime and traffic. A miss is a read over 300 ms, or one that failed. The floor is the
    better of two sites by peak latency and requests in flight, with breakers. Nothing is sent anywhere.
    """
    from app.domain.balancing import POLICIES
    from app.lab.route_simulation import simulate as play

    document = play(scenarios, seed, list(POLICIES), told)
    if as_json:
        print_json(document)
        return
    print_rows(document["policies"], COLUMNS, as_json=False, nothing="")


def told(done: int, total: int, what: str) -> None:
    """Says on a terminal how far a simulation is."""
    if sys.stderr.isatty():
        click.echo(f"\r\033[K{done} of {total} {what}", nl=done == total, err=True)
