"""`foretide what-if`: the plan beside that under other prices, rules or reads, or with sites lost; nothing is saved."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from app.cli.arguments import Finite
from app.cli.output import Columns, Json, money, print_json, print_rows, safe
from app.cli.session import connect, follow, wait_options

COMPONENTS = ("storage", "requests", "retrieval", "egress", "sla_penalty")
BY_PREFIX: Columns = {
    "PREFIX": lambda row: row["prefix"] or "(all others)",
    "OBJECTS": "objects",
    "TOUCHED": "touched",
    "INFEASIBLE": "infeasible",
    "MOVES": "moves",
    "ONE-OFF": lambda row: money(row["one_off"]),
    "TODAY": lambda row: money(row["cost_before"]),
    "PLAN": lambda row: money(row["cost_planned"]),
    "WHAT-IF": lambda row: money(row["cost_what_if"]),
    "EXAMPLES": lambda row: ", ".join(row["examples"]),
}


@click.command("what-if")
@click.option("--prefix", help="Only objects whose keys begin so.")
@click.option("--key", "keys", multiple=True, help="Only this object; may be given again.")
@click.option("--rf", type=click.IntRange(min=1), help="So many replicas of each object.")
@click.option("--sla-ms", type=Finite(min=0, min_open=True), help="Latency that one replica must meet.")
@click.option("--residency", multiple=True, metavar="SITE", help="Copies lie only there; may be given again.")
@click.option("--lost", multiple=True, metavar="SITE", help="The site is gone with its copies; may be given again.")
@click.option("--reads", "reads_times", type=Finite(min=0), metavar="K", help="K times as many reads.")
@click.option("--prices", multiple=True, metavar="SITE=BOOK", help="Other prices: a provider, or a file; repeatable.")
@click.option("--horizon-days", type=Finite(min=0, min_open=True), help="What a move must pay back within.")
@wait_options
def what_if(
    wait: bool, timeout: float | None, as_json: bool, prices: tuple[str, ...], prefix: str | None,
    horizon_days: float | None, **otherwise: Any,
) -> None:  # fmt: skip
    """Show the plan under other prices, rules or reads, or with sites lost; nothing is saved or moved."""
    keys = list(otherwise.pop("keys")) or None
    said = {name: list(value) if isinstance(value, tuple) else value for name, value in otherwise.items()}
    asked = {name: value for name, value in said.items() if value not in (None, [])}
    if prices:
        asked["prices"] = dict(_book(entry) for entry in prices)
    if not asked:
        raise click.UsageError("say what would be otherwise: --rf, --sla-ms, --residency, --lost, --reads or --prices")
    with connect() as client:
        job = client.what_if(prefix=prefix, keys=keys, horizon_days=horizon_days, **asked)
        ended = follow(client, job, wait=wait, timeout=timeout)
    show_comparison(ended, as_json=as_json, waited=wait)


def _book(entry: str) -> tuple[str, str | Json]:
    """SITE=BOOK read: a provider's name as it is, or the document in a file. Raises UsageError."""
    site, equals, book = entry.partition("=")
    if not (site and equals and book):
        raise click.UsageError(f"--prices {entry}: SITE=PROVIDER or SITE=FILE is expected")
    if not Path(book).is_file():
        return site, book
    try:
        document: Json = json.loads(Path(book).read_text())
    except (OSError, ValueError) as error:
        raise click.UsageError(f"--prices: {book} cannot be read as JSON: {error}") from error
    return site, document


def show_comparison(job: Json, *, as_json: bool, waited: bool) -> None:
    """Prints what a what-if's job has found, or the job while it works."""
    if as_json:
        print_json(job["result"] if waited else job)
        return
    if not waited:
        click.echo(f"job {job['id']} {job['state']}")
        return
    found = job["result"]
    click.echo(f"What if: {safe('; '.join(found['scenario']) or 'nothing was otherwise')}")
    click.echo(
        f"{found['objects']} objects; other rules hold for {found['objects_under_other_rules']}, "
        f"{found['objects_moved_otherwise']} are moved otherwise, {found['objects_lost']} lose every copy"
    )
    for note in found["notes"]:
        click.echo(safe(note))
    print_rows(_rows(found), SIDES, as_json=False, nothing="")
    print_rows(found["by_prefix"], BY_PREFIX, as_json=False, nothing="There are no objects.")
    for group in found["what_if"]["infeasible"]:
        click.echo(f"  ! {_stuck(group)}")
    for example in found["examples"]:
        click.echo(f"  {safe(example['key'])}: {_moves(example['current'])} → {_moves(example['what_if'])}")
        click.echo(f"      {safe(example['reason'])}")


SIDES: Columns = {
    "DOLLARS A MONTH": "name",
    "TODAY": "today",
    "PLAN": "plan",
    "TODAY THEN": "today_then",
    "PLAN THEN": "plan_then",
    "DIFFERENCE": "difference",
}


def _rows(found: Json) -> list[Json]:
    """A line a component, then the sums; "then" is under the scenario, the difference that of the two plans."""
    current, other, delta = found["current"], found["what_if"], found["delta"]
    rows = [
        _row(name.replace("_", " "), current["components"][name], other["components"][name], delta["components"][name])
        for name in COMPONENTS
    ]
    now, then = ({"before": side["cost_before"], "after": side["cost_after"]} for side in (current, other))
    rows.append(_row("a month", now, then, delta["cost_after"]))
    rows.append(_single("one-off", money(current["one_off"]), money(other["one_off"]), money(delta["one_off"])))
    rows.append(_single("moves", current["moves"], other["moves"], f"{delta['moves']:+}"))
    before, after = (sum(group["objects"] for group in side["infeasible"]) for side in (current, other))
    rows.append(_single("infeasible objects", before, after, f"{after - before:+}"))
    return rows


def _row(name: str, now: Mapping[str, float], then: Mapping[str, float], difference: float) -> Json:
    return {
        "name": name,
        "today": money(now["before"]),
        "plan": money(now["after"]),
        "today_then": money(then["before"]),
        "plan_then": money(then["after"]),
        "difference": money(difference),
    }


def _single(name: str, now: object, then: object, difference: object) -> Json:
    return {"name": name, "today": "", "plan": now, "today_then": "", "plan_then": then, "difference": difference}


def _stuck(group: Json) -> str:
    """A group of objects without a placement: why, what would help, and which."""
    helps = [f"{entry['change']} ({money(entry['usd_a_month'])} a month each)" for entry in group["relaxations"][:3]]
    help_with = f"; would help: {', or '.join(helps)}" if helps else ""
    return (
        f"{group['objects']} objects: {safe(group['detail'])}{safe(help_with)}; e.g. {safe(', '.join(group['keys']))}"
    )


def _moves(moves: list[Json]) -> str:
    """Moves in words."""
    told = [f"{move['kind']} {_end(move, 'from')} → {_end(move, 'to')}" for move in moves]
    return safe(" + ".join(told)) or "stays"


def _end(move: Json, side: str) -> str:
    return f"{move[f'{side}_site']}/{move[f'{side}_class']}" if move[f"{side}_site"] else "nowhere"
