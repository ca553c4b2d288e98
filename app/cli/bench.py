"""`foretide bench`: measures each path beside its peer in the same run, as docs/benchmarks.md shows it."""

from __future__ import annotations

import click

from app.cli.output import Columns, Json, json_option, print_rows
from app.errors import ExitCode


def _ratio(result: Json) -> str:
    return f"{result['ratio']:,.3g} ×"


def _met(result: Json) -> str:
    return "yes" if result["met"] else "no"


def _figure(result: Json, side: str) -> str:
    return f"{result[side]:,.4g} {result['unit']}"


COLUMNS: Columns = {
    "NAME": "name",
    "OURS": lambda result: _figure(result, "ours"),
    "PEER": lambda result: _figure(result, "peer"),
    "RATIO": _ratio,
    "BAR": "bar",
    "MET": _met,
}


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME]...")
@json_option
def bench(names: tuple[str, ...], as_json: bool) -> int:
    """Measure the benchmarks named, else all, each beside its peer, on an embedded stack of their own."""
    from app.devstack.guard import guarded
    from bench.run import BENCHMARKS, measure

    unknown = [name for name in names if name not in BENCHMARKS]
    if unknown:
        raise click.UsageError(f"there is no benchmark {', '.join(unknown)}; there are {', '.join(BENCHMARKS)}")

    def run() -> int:
        results = measure(names or tuple(BENCHMARKS), tell=lambda line: click.echo(line, err=True))
        print_rows(results, COLUMNS, as_json=as_json, nothing="Nothing was measured.")
        return ExitCode.OK

    return guarded(run)
