"""Hours of everything at once: `python -m tests.soak --hours 8 --seed N`; what must hold is looked at all the time."""

from __future__ import annotations

import json
import random
import sys
import time
from contextlib import ExitStack
from datetime import timedelta

import click

from app.db import schema
from app.devstack.guard import guarded
from app.devstack.stack import Stack
from app.devstack.state import StateFolder, prepare
from app.settings import get_settings
from tests.faults.proxy import proxied
from tests.reliability.fleet import Fleet
from tests.soak.drivers import Drivers
from tests.soak.nemesis import Nemesis
from tests.soak.owners import Owners
from tests.soak.report import Report
from tests.world import World

SETTINGS = {
    "lease_s": 6, "lease_renew_s": 2, "grace_s": 20, "presign_ttl_s": 5, "growing_age_s": 2, "retry_cap_s": 20,
    "probe_every_s": 10, "s3_read_timeout_s": 5, "soft_shutdown_s": 5, "backlog_alert": 10**6, "max_attempts": 20,
}  # fmt: skip
PROGRESS_S = 10.0


@click.command()
@click.option("--hours", default=8.0, show_default=True, help="How long the nemesis works.")
@click.option("--seed", type=int, help="Of the nemesis and the owners; printed.")
@click.option("--objects", default=100_000, show_default=True)
@click.option("--max-size", default=64 * 2**10, show_default=True, help="Bytes; sizes are spread evenly by magnitude.")
@click.option("--large", default=20, show_default=True, help="Objects of 20 MiB beside them.")
@click.option("--workers", default=2, show_default=True, help="Workers of two processes each.")
@click.option("--every", default=9.6, show_default=True, help="Seconds between two acts of the nemesis.")
@click.option("--rest", default=900.0, show_default=True, help="Seconds given to what is open, once all is quiet.")
@click.option("--json", "as_json", is_flag=True, help="The report as JSON.")
def main(as_json: bool, **options: float) -> None:
    """Runs the soak; exit code 1 when anything was found that must not be."""
    sys.exit(guarded(lambda: soak(as_json=as_json, **options)))


def soak(
    *,
    as_json: bool,
    hours: float,
    seed: int | None,
    objects: int,
    max_size: int,
    large: int,
    workers: int,
    every: float,
    rest: float,
) -> int:
    """The whole run; the exit code."""
    chosen = random.randrange(10**9) if seed is None else seed
    click.echo(f"soak: {hours:g} h over {objects:,} objects, seed {chosen}")
    with ExitStack() as undo:
        stack = undo.enter_context(Stack(StateFolder.fresh(prepare(get_settings().state_dir))))
        stack.adopt(**{f"FORETIDE_{name.upper()}": str(value) for name, value in SETTINGS.items()})
        schema.upgrade(get_settings().sqlalchemy_url)
        proxies = proxied(stack.sites, chosen)
        clocks = random.Random(chosen)
        for proxy in proxies.values():
            proxy.clock_offset = timedelta(minutes=clocks.uniform(-60, 60))
            undo.enter_context(proxy)
        world = World({name: proxy.site for name, proxy in proxies.items()})
        world.policy("budget", {"moves_per_day": 10**9})
        report = Report(chosen)
        owners = Owners(stack.sites, world, random.Random(chosen), report)
        owners.fill(objects, max_size, large, lambda done: click.echo(f"stored {done:,} of {objects + large:,}"))
        fleet = Fleet(stack.state.folder("fleet"), stack.part("broker"))  # type: ignore[arg-type]
        undo.callback(fleet.stop)
        for number in range(workers):
            fleet.start_worker(number)
        for number in range(2):
            fleet.start_beat(number)
        drivers = Drivers(world, owners, random.Random(chosen + 1), report)
        nemesis = Nemesis(stack, fleet, proxies, random.Random(chosen + 2), report)
        drivers.scan_all(timeout_s=600)
        drivers.start()
        _run(nemesis, report, until=time.monotonic() + timedelta(hours=hours).total_seconds(), every=every)
        nemesis.relent()
        drivers.rest(rest, click.echo)
        report.finish(owners, world)
    click.echo(json.dumps(report.document, indent=2) if as_json else report.text())
    return 1 if report.violations else 0


def _run(nemesis: Nemesis, report: Report, *, until: float, every: float) -> None:
    told = acted = time.monotonic()
    while (now := time.monotonic()) < until:
        nemesis.keep_up()
        if now - acted >= every:
            acted = now
            nemesis.act()
        if now - told >= PROGRESS_S:
            told = now
            click.echo(report.line())
        time.sleep(0.1)


if __name__ == "__main__":
    main()
