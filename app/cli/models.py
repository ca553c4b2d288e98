"""`foretide models`: the versions of each model beside their baselines; trains a new one."""

from __future__ import annotations

import click

from app.cli.output import Cell, Columns, Json, json_option, money, print_item, print_rows, when_of
from app.cli.session import connect, finish, wait_options


def _metric(name: str) -> Cell:
    def shown(item: Json) -> str | None:
        value = (item.get("metrics") or {}).get(name)
        return f"{value:.3f}" if isinstance(value, float) else value

    return shown


def _baselines(item: Json) -> str:
    """Each with its AUC; what has none is of placement, and told in dollars by site."""
    told = []
    for name, metrics in (item.get("baselines") or {}).items():
        if isinstance(metrics, dict) and "auc" not in metrics:
            learned = (item.get("metrics") or {}).get(name, {}).get("learned")
            beside = [f"{other} {money(usd)}" for other, usd in metrics.items()]
            told.append(f"{name}: learned {money(learned)}, {', '.join(beside)}")
            continue
        auc = metrics.get("auc") if isinstance(metrics, dict) else metrics
        told.append(f"{name} {auc:.3f}" if isinstance(auc, float) else f"{name} {auc}")
    return ", ".join(told)


COLUMNS: Columns = {
    "NAME": "name",
    "VERSION": "version",
    "STATE": "state",
    "ALGORITHM": "algorithm",
    "AUC": _metric("auc"),
    "PR AUC": _metric("pr_auc"),
    "BASELINES": _baselines,
    "TRAINED": when_of("created_at"),
}
FIELDS: Columns = {**COLUMNS, "REASON": "reason", "FEATURES": "features", "METRICS": "metrics", "PARAMETERS": "params"}


@click.group()
def models() -> None:
    """List, show and train models."""


@models.command("list")
@json_option
def list_models(as_json: bool) -> None:
    """List the models with their metrics beside their baselines."""
    with connect() as client:
        nothing = "No model is trained yet. Next: foretide models train"
        print_rows(client.models(), COLUMNS, as_json=as_json, nothing=nothing)


@models.command()
@click.argument("name")
@click.argument("version", type=int)
@json_option
def show(name: str, version: int, as_json: bool) -> None:
    """Show one version of a model."""
    with connect() as client:
        print_item(client.model_version(name, version), FIELDS, as_json=as_json)


@models.command()
@click.argument("name", default="tier")
@wait_options
def train(name: str, wait: bool, timeout: float | None, as_json: bool) -> None:
    """Train a new version; it serves only when it beats its baselines on later data."""
    with connect() as client:
        finish(client, client.train(name), wait=wait, timeout=timeout, as_json=as_json)
