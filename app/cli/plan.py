"""`foretide plan`: what would be moved, what it saves and why; applies exactly what was shown."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import islice
from typing import TYPE_CHECKING, Any

import click

from app.cli.arguments import Finite
from app.cli.output import (
    Columns,
    Json,
    json_option,
    money,
    money_of,
    print_json,
    print_rows,
    safe,
    size,
    when,
    when_of,
)
from app.cli.session import agreed, connect, finish, follow, wait_options, yes_options
from app.errors import ExitCode

if TYPE_CHECKING:
    from app.client import Client

COLUMNS: Columns = {
    "ID": "id",
    "STATE": "state",
    "MOVES": "moves",
    "OBJECTS": "objects",
    "NOW": money_of("cost_before"),
    "PLANNED": money_of("cost_after"),
    "ONE-OFF": money_of("one_off"),
    "MADE": when_of("created_at"),
}
FORMATS = {"s3": "s3-lifecycle", "gcs": "gcs-lifecycle", "azure": "azure-policy"}
SAVINGS: Columns = {
    "COHORT": "cohort",
    "MOVES": "moves",
    "WOULD HAVE COST": money_of("stayed"),
    "COST": money_of("actual"),
    "FEES": money_of("fee"),
    "OWED": money_of("owed"),
    "SAVED": money_of("saved"),
    "UNKNOWN DAYS": lambda row: row["unknown_days"] or "",
    "DEMOTES": lambda row: "no" if row["no_demotions"] else "yes",
}
NO_SAVINGS = "No change of class or site is in the ledger; those that have been made enter it once a night."
SIGNS = {"copy": "+", "move": "~", "class": "~", "remove": "-"}


def scope_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds what a plan is made of, and how to wait for it."""
    for option in (
        click.option("--detailed-exitcode", is_flag=True, help="Exit with 20 when the plan holds changes."),
        click.option("--horizon-days", type=click.IntRange(min=1), help="What a move must pay back within."),
        click.option("--sla-ms", type=Finite(min=0, min_open=True), help="Latency that one replica must meet."),
        click.option("--rf", type=click.IntRange(min=1), help="Replicas of each object."),
        click.option("--key", "keys", multiple=True, help="Only this object; may be given again."),
        click.option("--prefix", help="Only objects whose keys begin so."),
    ):
        command = option(command)
    return wait_options(command)


@click.group(invoke_without_command=True)
@scope_options
@click.pass_context
def plan(ctx: click.Context, /, **given: Any) -> ExitCode | None:
    """Make a plan; or list, show, approve and apply plans."""
    return None if ctx.invoked_subcommand else _create(**given)


@plan.command()
@scope_options
def create(**given: Any) -> ExitCode:
    """Make a plan and show it; nothing is moved."""
    return _create(**given)


def _create(
    *, wait: bool, timeout: float | None, as_json: bool, detailed_exitcode: bool, keys: tuple[str, ...], **scope: Any
) -> ExitCode:
    with connect() as client:
        job = follow(client, client.make_plan(keys=list(keys) or None, **scope), wait=wait, timeout=timeout)
        if not wait:
            print_json(job) if as_json else click.echo(f"job {job['id']} {job['state']}")
            return ExitCode.OK
        return _show(client, job["result"]["plan_id"], as_json=as_json, detailed_exitcode=detailed_exitcode)


@plan.command()
@click.option("--prefix", help="Only objects whose keys begin so.")
@click.option("--key", "keys", multiple=True, help="Only this object; may be given again.")
@wait_options
def prewarm(prefix: str | None, keys: tuple[str, ...], wait: bool, timeout: float | None, as_json: bool) -> ExitCode:
    """Plan temporary copies and classes for recurring peaks of reads; applied at once in mode auto."""
    with connect() as client:
        started = client.make_plan(peaks=True, prefix=prefix, keys=list(keys) or None)
        job = follow(client, started, wait=wait, timeout=timeout)
        result = job["result"] or {}
        if not wait or result.get("plan_id") is None:
            told = (
                f"{result['peaks']} peaks are due and none is worth a copy" if result.get("peaks") else "no peak is due"
            )
            print_json(job) if as_json else click.echo(told if wait else f"job {job['id']} {job['state']}")
            return ExitCode.OK
        return _show(client, result["plan_id"], as_json=as_json, detailed_exitcode=False)


@plan.command()
@json_option
def savings(as_json: bool) -> None:
    """Show what changes of class and site have really saved, and where demotions have stopped since they lost money."""
    with connect() as client:
        found = client.savings()
    if as_json:
        print_json(found)
        return
    print_rows(found["cohorts"], SAVINGS, as_json=False, nothing=NO_SAVINGS)
    total = found["total"]
    click.echo(f"{total['moves']} changes saved {money(total['saved'])}, fees and what is owed included")
    for row in found["cohorts"]:
        if row["waiting"]:
            click.echo(f"  {safe(row['cohort'])}: {row['waiting']} wait to be counted: {safe(row['reason'])}")
    for why in found["no_demotions"].values():
        click.echo(f"  {safe(why)}")


@plan.command("list")
@click.option("--limit", type=click.IntRange(min=1), default=50, show_default=True, help="At most so many.")
@json_option
def list_plans(limit: int, as_json: bool) -> None:
    """List plans, newest first."""
    with connect() as client:
        nothing = "There are no plans yet. Next: foretide plan"
        print_rows(islice(client.plans(), limit), COLUMNS, as_json=as_json, nothing=nothing)


@plan.command()
@click.argument("plan_id", type=int)
@click.option("--detailed-exitcode", is_flag=True, help="Exit with 20 when the plan holds changes.")
@json_option
def show(plan_id: int, detailed_exitcode: bool, as_json: bool) -> ExitCode:
    """Show a plan's moves, each with its money and its reason."""
    with connect() as client:
        return _show(client, plan_id, as_json=as_json, detailed_exitcode=detailed_exitcode)


@plan.command()
@click.argument("plan_id", type=int)
@json_option
def changes(plan_id: int, as_json: bool) -> None:
    """List a plan's moves."""
    with connect() as client:
        if as_json:
            print_json(list(client.changes(plan_id)))
        else:
            _print_moves(client.changes(plan_id))


@plan.command()
@click.argument("plan_id", type=int)
@yes_options
def approve(plan_id: int, yes: bool, dry_run: bool) -> None:
    """Approve a plan as it stands."""
    with connect() as client:
        found, etag = client.plan(plan_id)
        if agreed(f"approve plan {plan_id}: {_totals(found)}", yes=yes, dry_run=dry_run):
            click.echo(f"plan {plan_id} {client.approve_plan(plan_id, etag)['state']}")


@plan.command()
@click.argument("plan_id", type=int)
@yes_options
@wait_options
def apply(plan_id: int, yes: bool, dry_run: bool, wait: bool, timeout: float | None, as_json: bool) -> None:
    """Carry out exactly this plan; refused when the world has changed since it was made."""
    with connect() as client:
        found, etag = client.plan(plan_id)
        if agreed(f"apply plan {plan_id}: {_totals(found)}", yes=yes, dry_run=dry_run):
            finish(client, client.apply_plan(plan_id, etag), wait=wait, timeout=timeout, as_json=as_json)


@plan.command()
@click.argument("plan_id", type=int)
@click.option("--provider", type=click.Choice(list(FORMATS)), required=True, help="Whose lifecycle rules.")
@click.option("--site", help="Only this site's.")
@json_option
def export(plan_id: int, provider: str, site: str | None, as_json: bool) -> ExitCode:
    """Print a plan's demotions in place as a provider's lifecycle rules; what none can say is told beside."""
    with connect() as client:
        found = client.export_plan(plan_id, FORMATS[provider], site)
    if as_json:
        print_json(found)
        return ExitCode.OK
    if len(found["sites"]) != 1:
        names = ", ".join(entry["site"] for entry in found["sites"]) or "none"
        raise click.UsageError(f"sites with such rules: {names}; say which by --site, or --json for all")
    (only,) = found["sites"]
    print_json(only["document"])
    click.echo(f"{len(only['rules'])} rules for {only['objects']} objects, {size(only['bytes'])}", err=True)
    for entry in only["left_out"]:
        where = f" ({safe(', '.join(entry['prefixes'][:5]))})" if entry["prefixes"] else ""
        click.echo(
            f"left out: {entry['objects']} objects, {size(entry['bytes'])}: {safe(entry['reason'])}{where}", err=True
        )
    for note in found["notes"]:
        click.echo(note, err=True)
    return ExitCode.PARTIAL if only["left_out"] else ExitCode.OK


@plan.command()
@click.argument("plan_id", type=int)
@yes_options
def cancel(plan_id: int, yes: bool, dry_run: bool) -> None:
    """Cancel a plan; what has been moved stays where it is."""
    with connect() as client:
        found, etag = client.plan(plan_id)
        if agreed(f"cancel plan {plan_id} ({found['state']})", yes=yes, dry_run=dry_run):
            click.echo(f"plan {plan_id} {client.cancel_plan(plan_id, etag)['state']}")


@plan.command()
@click.argument("plan_id", type=int)
@click.option("--apply", is_flag=True, help="Also carry out the plan that moves back what was deleted already.")
@yes_options
@wait_options
def rollback(
    plan_id: int, apply: bool, yes: bool, dry_run: bool, wait: bool, timeout: float | None, as_json: bool
) -> None:
    """Undo an applied plan: sources are read again; what was deleted is brought back by a new plan."""
    with connect() as client:
        found, _ = client.plan(plan_id)
        if dry_run or agreed(f"roll plan {plan_id} back: {_totals(found)}", yes=yes):
            started = client.roll_back_plan(plan_id, apply=apply, dry_run=dry_run)
            ended = finish(client, started, wait=wait, timeout=timeout, as_json=as_json)
            back = (ended.get("result") or {}).get("moved_back_by_plan")
            if back and not apply:
                click.echo(f"Next: foretide plan apply {back}", err=True)


def _show(client: Client, plan_id: int, *, as_json: bool, detailed_exitcode: bool) -> ExitCode:
    found, _ = client.plan(plan_id)
    moves = list(client.changes(plan_id))
    if as_json:
        print_json({**found, "changes": moves})
    else:
        click.echo(f"Plan {plan_id} ({found['state']}), as of {found['as_of']}")
        _print_moves(moves)
        for conflict in found.get("infeasible") or []:
            click.echo(f"  ! {safe(conflict.get('detail') or conflict)}")
        for left in left_out(found):
            click.echo(f"  ! {safe(left)}")
        if unlearned := found["solver"].get("vote", {}).get("unlearned"):
            click.echo(f"  ! the voters have not learned: {safe(unlearned)}")
        for site in found["solver"].get("alarms", []):
            click.echo(
                f"  ! {safe(site)}: colder classes are read far more than expected: nothing is demoted there today"
            )
        click.echo(f"\n{_totals(found)}")
        for name, cost in (found.get("baselines") or {}).items():
            if isinstance(cost, int | float):
                click.echo(f"  beside: {safe(name)} {money(cost)} a month")
        if moves and found["state"] in ("ready", "approved"):
            click.echo(f"Next: foretide plan apply {plan_id}", err=True)
    return ExitCode.CHANGES if detailed_exitcode and moves else ExitCode.OK


def left_out(found: Json) -> list[str]:
    """How many objects a plan could not look at, with the first and why, and how many have a move in hand."""
    left = found["solver"].get("unplanned") or {"objects": 0}
    lines = [f"{number} objects are left out: {why}" for why, number in left.get("moving", {}).items()]
    if left["objects"]:
        first = left["first"][0]
        lines.append(f"{left['objects']} objects are left out, such as {first['key']}: {first['reason']}")
    return lines


def _print_moves(moves: Iterable[Json]) -> None:
    for move in moves:
        sign = SIGNS.get(move["kind"], "~")
        payback = move.get("payback_days")
        back = f", back in {payback:.1f} days" if payback is not None else ""
        click.echo(
            f"  {sign} {safe(move['key'])}  {_end(move, 'from')} → {_end(move, 'to')}  ({size(move.get('bytes'))})"
        )
        click.echo(
            f"      {money(move['monthly_delta'])} a month, {money(move['one_off'])} once{back}: {safe(move['reason'])}"
        )
        if move.get("not_before"):
            by = f", ready by {when(move['ready_by'])}" if move.get("ready_by") else ""
            click.echo(f"      not before {when(move['not_before'])}{by}")


def _end(move: Json, side: str) -> str:
    site = move.get(f"{side}_site")
    return f"{safe(site)}/{safe(move.get(f'{side}_class'))}" if site else "nowhere"


def _totals(found: Json) -> str:
    back = found.get("payback_days")
    costs = f"{money(found['cost_before'])} → {money(found['cost_after'])} a month, {money(found['one_off'])} once"
    costs += "" if back is None else f", back in {back:.1f} days"
    return f"{found['moves']} moves of {found['objects']} objects, {costs}"
