"""`foretide models`: the versions of each model beside their baselines, their lives, drift and importances."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from app.cli import general_models
from app.cli.evaluate import evaluate
from app.cli.model_batches import predict_batch
from app.cli.model_columns import COLUMNS, DRIFT, EVALUATIONS, FIELDS, IMPORTANCES, VERSIONS
from app.cli.output import Json, json_option, print_item, print_json, print_rows, safe
from app.cli.session import agreed, connect, finish, wait_options, yes_options
from app.domain.general_models import RESERVED

WATCHES = {
    "calibration": "{predicted:.3f} were expected to be read and {happened:.3f} were, of {n} "
    "(gap {interval[0]:+.3f} to {interval[1]:+.3f}, limit {limit:g})",
    "coverage": "{predicted:.0%} of counts were expected between the outer quantiles and {happened:.0%} were, of {n} "
    "(gap {interval[0]:+.3f} to {interval[1]:+.3f}, limit {limit:g})",
}


def reason_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds --reason, which the version and the audit keep."""
    return click.option("--reason", required=True, help="Why; it stands in the version and in the audit.")(command)


def version_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds what a command takes that moves one version through its life."""
    version = click.argument("version", type=int)(reason_option(yes_options(json_option(command))))
    return click.argument("name")(version)


@click.group()
def models() -> None:
    """List, judge, train and promote models."""


models.add_command(evaluate)


@models.command("list")
@json_option
def list_models(as_json: bool) -> None:
    """List the models with their metrics beside their baselines."""
    with connect() as client:
        nothing = "No model is trained yet. Next: foretide models train"
        print_rows(client.models(), COLUMNS, as_json=as_json, nothing=nothing)


@models.command()
@click.argument("name")
@click.argument("version", type=int, required=False)
@json_option
def show(name: str, version: int | None, as_json: bool) -> None:
    """Show one version of a model, by default the one that serves: what it learned from, figures, files."""
    with connect() as client:
        number = version or _serving(client.model(name)[0])
        print_item(client.model_version(name, number), FIELDS, as_json=as_json)


@models.command()
@click.argument("name", default="tier")
@json_option
def versions(name: str, as_json: bool) -> None:
    """List the versions of a model, the newest first, with where each is in its life and why."""
    with connect() as client:
        print_rows(client.model_versions(name), VERSIONS, as_json=as_json, nothing="There are no versions.")


@models.command()
@click.argument("name", default="tier")
@json_option
def evaluations(name: str, as_json: bool) -> None:
    """List what each version was measured at, beside its baselines and the champion of its time."""
    with connect() as client:
        print_rows(client.evaluations(name), EVALUATIONS, as_json=as_json, nothing="There are no versions.")


@models.command()
@click.argument("name", default="tier")
@click.option("--version", type=click.IntRange(min=1), help="By default the one that serves.")
@json_option
def importances(name: str, version: int | None, as_json: bool) -> None:
    """Show which features a version goes by: what is lost when one is shuffled, and what its estimator says."""
    with connect() as client:
        found = client.importances(name, version)
    if as_json:
        print_json(found)
        return
    own = found.get("built_in") or {}
    rows = [{"feature": f, "built_in": own.get(f), **lost} for f, lost in (found.get("permutation") or {}).items()]
    print_rows(rows, IMPORTANCES, as_json=False, nothing=f"Nothing was measured for version {found['version']}.")


@models.command()
@click.argument("name", default="tier")
@json_option
def drift(name: str, as_json: bool) -> None:
    """Show how far what the serving version sees is from what it saw when it was trained, and whether it comes true."""
    with connect() as client:
        found = client.drift(name)
    if as_json:
        print_json(found)
        return
    nothing = "Nothing was compared yet: the watch runs each hour."
    if name not in RESERVED:
        nothing = "Models over your own events are not watched: the rows that they are asked are not kept."
    print_rows(found["features"], DRIFT, as_json=False, nothing=nothing)
    for watch, words in WATCHES.items():
        if watched := found[watch]:
            click.echo(f"{words.format(**watched)}{', over' if watched['over'] else ''}")


@models.command()
@click.argument("name", default="tier")
@general_models.recipe_options
@wait_options
def train(name: str, wait: bool, timeout: float | None, as_json: bool, **recipe: Any) -> None:
    """Train a new version; it serves only when it beats its baselines on later data, and its champion as shadow.

    With --events a model of your own name is trained over your own events.
    """
    if recipe["events"] is None and any(value not in (None, ()) for value in recipe.values()):
        raise click.UsageError("say --events too: only models over your own events are trained with these options")
    own = recipe["events"] is not None
    if own and name in RESERVED:
        raise click.UsageError(f"{name} is a model that Foretide trains itself: say a name of your own")
    with connect() as client:
        job = general_models.train_over_events(client, name, recipe) if own else client.train(name)
        finish(client, job, wait=wait, timeout=timeout, as_json=as_json)


def _change(name: str, version: int, verb: str, effect: str, options: Json) -> None:
    with connect() as client:
        _, etag = client.model(name)
        client.model_version(name, version)  # one that is not there is told before anything is asked
        if agreed(f"{effect}: {name} {version}", yes=options["yes"], dry_run=options["dry_run"]):
            _tell(client.change_version(name, version, verb, options["reason"], etag), as_json=options["as_json"])


@models.command()
@version_options
def promote(name: str, version: int, **options: Any) -> None:
    """Let a version serve from the next predictions on, without waiting for its judgement."""
    _change(name, version, "promote", "let this version serve and retire the one that does", options)


@models.command()
@version_options
def shadow(name: str, version: int, **options: Any) -> None:
    """Let a version score beside the champion, to be judged on what then happens."""
    _change(name, version, "shadow", "make this version the shadow and retire the one that is", options)


@models.command()
@version_options
def retire(name: str, version: int, **options: Any) -> None:
    """Take a version out that does not serve."""
    _change(name, version, "retire", "retire this version", options)


@models.command()
@click.argument("name", default="tier")
@reason_option
@yes_options
@json_option
def rollback(name: str, reason: str, yes: bool, dry_run: bool, as_json: bool) -> None:
    """Let the version serve again that served before; a second one goes back further."""
    with connect() as client:
        found, etag = client.model(name)
        champion = found.get("champion") or {}
        effect = f"retire {name} {champion.get('version')} and let version {champion.get('replaced')} serve again"
        if agreed(effect, yes=yes, dry_run=dry_run):
            _tell(client.roll_back_model(name, reason, etag), as_json=as_json)


for _command in (predict_batch, general_models.predict, general_models.delete, general_models.export):
    models.add_command(_command)


def _serving(model: Json) -> int:
    found = model["champion"] or model["shadow"] or model["candidate"] or {}
    if not found:
        raise click.UsageError(f"every version of {model['name']} is retired; say which: foretide models versions")
    return int(found["version"])


def _tell(version: Json, *, as_json: bool) -> None:
    if as_json:
        print_json(version)
    else:
        click.echo(f"{safe(version['name'])} {version['version']} {version['state']}: {safe(version['reason'])}")
