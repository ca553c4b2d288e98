"""`foretide explain KEY`: every candidate placement with its cost, what rules it out, and why one was chosen."""

from __future__ import annotations

import click

from app.cli.output import Cell, Columns, Json, json_option, money, print_json, print_rows, safe
from app.cli.session import connect

PARTS = ("storage", "requests", "retrieval", "egress", "move", "early_deletion", "sla_penalty")


def _places(candidate: Json) -> str:
    return " + ".join(f"{p['site']}/{p['storage_class']}" for p in candidate.get("places") or [])


def _part(name: str) -> Cell:
    return lambda candidate: money((candidate.get("cost") or {}).get(name))


COLUMNS: Columns = {
    "": lambda candidate: "→" if candidate.get("chosen") else "",
    "PLACES": _places,
    **{name.upper().replace("_", " "): _part(name) for name in PARTS},
    "TOTAL": lambda candidate: money(candidate.get("total")),
    "RULED OUT BY": lambda candidate: ", ".join(candidate.get("ruled_out_by") or []),
}


@click.command()
@click.argument("key")
@json_option
def explain(key: str, as_json: bool) -> None:
    """Show why KEY is where it is: every candidate's cost and what rules it out."""
    with connect() as client:
        found = client.explanation(key)
    if as_json:
        print_json(found)
        return
    click.echo(f"{safe(found['key'])}")
    for name in ("tier", "p_hot", "model", "rf", "sla_ms", "reason", "margin", "prices_as_of"):
        if found.get(name) is not None:
            click.echo(f"  {name.replace('_', ' '):<13} {safe(found[name])}")
    nothing = "No candidate was computed yet. Next: foretide plan"
    print_rows(found.get("candidates") or [], COLUMNS, as_json=False, nothing=nothing)
