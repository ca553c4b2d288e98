"""`foretide explain KEY`: every candidate placement with its cost, what rules it out, and why one was chosen."""

from __future__ import annotations

import click

from app.cli.output import Cell, Columns, Json, json_option, money, money_of, print_json, print_rows, safe
from app.cli.session import connect

SPLIT = ("storage", "requests", "retrieval", "egress", "sla_penalty", "move", "early_deletion")
SHOWN = 12


def _part(name: str) -> Cell:
    return lambda candidate: money(candidate["split_usd"].get(name))


COLUMNS: Columns = {
    "": lambda candidate: "→" if candidate["chosen"] else "",
    "COPIES": "copies",
    "A MONTH": money_of("usd_a_month"),
    "TOTAL": money_of("total_usd"),
    **{name.upper().replace("_", " "): _part(name) for name in SPLIT},
    "RULED OUT BY": lambda candidate: "; ".join(candidate["ruled_out"]),
}


@click.command()
@click.argument("key")
@click.option("--all", "show_all", is_flag=True, help=f"Show every candidate, not only the {SHOWN} best.")
@json_option
def explain(key: str, show_all: bool, as_json: bool) -> None:
    """Show why KEY is where it is: every candidate's cost and what rules it out."""
    with connect() as client:
        found = client.explanation(key)
    if as_json:
        print_json(found)
        return
    for line in _story(found):
        click.echo(line)
    candidates = found["candidates"] if show_all else found["candidates"][:SHOWN]
    click.echo(f"\nCandidates, dollars over {found['horizon_days']:g} days:")
    print_rows(candidates, COLUMNS, as_json=False, nothing="There is no candidate.")
    hidden = len(found["candidates"]) - len(candidates) + found["candidates_left_out"]
    if hidden:
        click.echo(f"… and {hidden} more; --all or --json shows them", err=True)


def _story(found: Json) -> list[str]:
    """What was decided, why, and how near the other choice was; a line a fact."""
    lines = [safe(found["key"]), f"  {found['verdict']}: {safe(found['reason'])}"]
    lines.append(f"  today      {safe(found['today'])}")
    sla = "no SLA" if found["sla_ms"] is None else f"SLA {found['sla_ms']:g} ms"
    lines.append(f"  rules      rf {found['rf']}, {sla}, readers {safe(found['rules']['readers'])}")
    demand = found["demand"]
    hot = "" if found["p_hot"] is None else f", p_hot {found['p_hot']:.2f}"
    lines.append(f"  demand     {demand['reads_a_month']:.3g} reads a month{hot}")
    lines += [f"  gate       {safe(reason)}" for reason in found["gate"]]
    lines += [f"  breached   {safe(rule)}" for rule in found["breaches"]]
    if found["conflict"]:
        lines.append(f"  conflict   {safe(found['conflict']['detail'])}")
    if found["runner_up"]:
        flip = found["flips_at_reads_a_month"]
        where = "" if flip is None else f"; equal at {flip:.3g} reads a month"
        lines.append(f"  runner-up  {safe(found['runner_up'])}, {money(found['margin_usd'])} more{where}")
    for site, prices in found["prices"].items():
        lines.append(f"  prices     {safe(site)}: {safe(prices['book'])} as of {safe(prices['as_of'])}")
    return lines
