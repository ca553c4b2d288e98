"""`foretide models evaluate`: every candidate and baseline on any recorded trace, judged on its later part."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from app.cli.arguments import NewFile
from app.cli.output import Columns, Json, json_option, print_json, print_rows
from app.errors import ExitCode, Invalid

HORIZONS = {"1h": 3_600, "1d": 86_400, "7d": 7 * 86_400, "30d": 30 * 86_400}
SECOND = 1_000_000
SEED, MOST_SEED = 1, 2**32 - 1


def _with_interval(name: str) -> Any:
    def shown(row: Json) -> str:
        value, interval = row.get(name), row.get(f"{name}_interval")
        told = "–" if value is None else f"{value:.4f}"
        return f"{told} ({interval[0]:.3f}–{interval[1]:.3f})" if interval else told

    return shown


TIER: Columns = {
    "MODEL": "name",
    "KIND": "kind",
    "AUC": _with_interval("auc"),
    "PR AUC": _with_interval("pr_auc"),
    "BRIER": _with_interval("brier"),
    "LOG LOSS": _with_interval("log_loss"),
    "ECE": _with_interval("ece"),
}


DEMAND: Columns = {
    "MODEL": "name",
    "KIND": "kind",
    "QUANTILE LOSS": _with_interval("quantile_loss"),
    "COVERAGE": _with_interval("coverage"),
    "MAE": _with_interval("mae"),
    "POISSON DEVIANCE": _with_interval("poisson_deviance"),
    "MEAN READS": _with_interval("mean_reads"),
}
COLUMNS = {"tier": TIER, "demand": DEMAND}


@click.command()
@click.argument("model", type=click.Choice(["tier", "demand"]))
@click.option("--trace", type=click.Path(path_type=Path), required=True, help="Parquet, CSV or an access log.")
@click.option("--horizon", type=click.Choice(list(HORIZONS)), default="1d", show_default=True, help="How far ahead.")
@click.option(
    "--seed", type=click.IntRange(0, MOST_SEED), default=SEED, show_default=True, help="Of draws and resamples."
)
@click.option("--report", type=NewFile(), help="Also write a page with pictures.")
@json_option
def evaluate(model: str, trace: Path, horizon: str, seed: int, report: Path | None, as_json: bool) -> int:
    """Evaluate MODEL on a trace: fitted on the first 70 % of the time, judged on the rest beside every baseline.

    Nothing is sent anywhere and nothing is kept.
    """
    from app.lab import demand_evaluation, tier_evaluation
    from app.lab.evaluation_page import page
    from app.lab.traces import read_trace

    found = read_trace(trace)
    if found.rejected_total:
        first = found.rejected[0]
        click.echo(f"{found.rejected_total} lines left out; the first: line {first.line}: {first.detail}", err=True)
    if horizon == "1h" and found.history().daily:
        raise Invalid(f"{trace.name} tells days, not hours: choose a horizon of 1d, 7d or 30d")
    judged = demand_evaluation.evaluate if model == "demand" else tier_evaluation.evaluate
    told = judged(found, HORIZONS[horizon] * SECOND, seed, _progress)
    _progress(1, 1, "")
    document = {"trace": trace.name, "model": model, "horizon": horizon, "objects": len(found.keys), **told}
    if report:
        report.write_text(page(document))
    if as_json:
        print_json(document)
    else:
        print_rows(document["models"], COLUMNS[model], as_json=False, nothing="There are no models.")
        click.echo(f"{document['champion']} serves: {document['reason']}")
        click.echo(f"of {told['rows']['test']:,} later rows {_came(model, told['base_rate'])} within {horizon}")
    if report:
        click.echo(f"the report is in {report}", err=True)
    return ExitCode.OK


def _came(model: str, rate: float) -> str:
    return f"{rate:.1%} were read" if model == "tier" else f"had {rate:.3g} reads on average"


def _progress(done: int, total: int, what: str) -> None:
    """A line on a terminal that says what is done now, and is gone in the end."""
    if sys.stderr.isatty():
        bar = f"[{'#' * done}{'.' * (total - done)}] {what}" if done < total else ""
        click.echo(f"\r\x1b[2K{bar}", nl=False, err=True)
