"""`foretide explain KEY`: every candidate placement with its cost, what rules it out, and why one was chosen."""

from __future__ import annotations

import click

from app.cli.arguments import Finite
from app.cli.output import Cell, Columns, Json, json_option, money, money_of, print_json, print_rows, safe, size, when
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


WAYS: Columns = {
    "SITE": "site",
    "FROM": "from",
    "TO": "to",
    "SAVES A MONTH": money_of("saves_a_month"),
    "ONE-OFF": money_of("one_off"),
    "PAID BACK": lambda way: "never" if way["payback_days"] is None else f"{way['payback_days']:.3g} days",
    "FLIPS AT": lambda way: "–" if (at := way["flips_at_reads_a_month"]) is None else f"{at:.3g} reads a month",
    "SMALLEST": lambda way: "–" if way["smallest_bytes"] is None else size(round(way["smallest_bytes"])),
    "RULED OUT BY": lambda way: "; ".join(f"{reason} ({count})" for reason, count in way["closed"].items()),
}


@click.command()
@click.argument("key", required=False)
@click.option("--prefix", help="The break-even card of the objects whose keys begin so.")
@click.option("--break-even", "is_card", is_flag=True, help="Show between which classes it flips, and what is owed.")
@click.option("--horizon-days", type=Finite(0, 3650, min_open=True), help="What a move must pay back within.")
@click.option("--all", "show_all", is_flag=True, help=f"Show everything, not only the {SHOWN} best or what is held.")
@json_option
def explain(
    key: str | None, prefix: str | None, is_card: bool, horizon_days: float | None, show_all: bool, as_json: bool
) -> None:
    """Show why KEY is where it is: every candidate's cost and what rules it out; or where classes break even."""
    if (key is None) == (prefix is None):
        raise click.UsageError("give either a key or --prefix")
    with connect() as client:
        if prefix is not None or is_card:
            found = client.break_even(key=key, prefix=prefix, horizon_days=horizon_days)
        else:
            found = client.explanation(str(key), horizon_days=horizon_days)
    if as_json:
        print_json(found)
    elif "ways" in found:
        _card(found, show_all=show_all)
    else:
        _explanation(found, show_all=show_all)


def _explanation(found: Json, *, show_all: bool) -> None:
    for line in _story(found):
        click.echo(line)
    candidates = found["candidates"] if show_all else found["candidates"][:SHOWN]
    click.echo(f"\nCandidates, dollars over {found['horizon_days']:g} days:")
    print_rows(candidates, COLUMNS, as_json=False, nothing="There is no candidate.")
    hidden = len(found["candidates"]) - len(candidates) + found["candidates_left_out"]
    if hidden:
        click.echo(f"… and {hidden} more; --all or --json shows them", err=True)


def _card(found: Json, *, show_all: bool) -> None:
    """What is held and owed, and the ways out of it."""
    named = found["key"] if found["key"] is not None else f"{found['prefix']}… ({_sampled(found)})"
    click.echo(f"{safe(named)}  {size(found['bytes'])}, {found['reads_a_month']:.3g} reads a month and object")
    for copy in found["copies"]:
        left = f", {copy['days_left']:.3g} days left" if copy["days_left"] else ""
        owed = f"{money(copy['early_deletion_usd'])} owed for leaving today{left}"
        where = f"{safe(copy['storage_class'])} at {safe(copy['site'])}: {copy['objects']} objects{_read(copy)}"
        click.echo(f"  {where}, {money(copy['usd_a_month'])} a month; {owed}")
    for line in found["says"]:
        click.echo(f"  {safe(line)}")
    shown = [way for way in found["ways"] if show_all or way["held"]]
    click.echo(f"\nWays, over {found['horizon_days']:g} days, each to earn {found['payback']:g} times what it costs:")
    print_rows(shown, WAYS, as_json=False, nothing="There is no other class.")
    if len(shown) < len(found["ways"]):
        click.echo(
            f"… and {len(found['ways']) - len(shown)} between other classes; --all or --json shows them", err=True
        )


def _read(copy: Json) -> str:
    """How many of the objects have their reads answered there, where that is not all."""
    if copy["objects_read"] == copy["objects"]:
        return ""
    return f", {copy['objects_read'] or 'none'} of them read there"


def _sampled(found: Json) -> str:
    seen, total = found["objects"], found["objects_in_all"]
    return f"{seen} objects" if seen == total else f"{seen} of {total} objects looked at"


def _story(found: Json) -> list[str]:
    """What was decided, why, and how near the other choice was; a line a fact."""
    lines = [safe(found["key"]), f"  {found['verdict']}: {safe(found['reason'])}"]
    if found["left_out"]:
        lines.append(f"  left out   of plans for now: {safe(found['left_out'])}")
    lines.append(f"  today      {safe(found['today'])}")
    sla = "no SLA" if found["sla_ms"] is None else f"SLA {found['sla_ms']:g} ms"
    lines.append(f"  rules      rf {found['rf']}, {sla}, readers {safe(found['rules']['readers'])}")
    demand = found["demand"]
    band = "" if found["p_hot_band"] is None else " ({:.2f} to {:.2f})".format(*found["p_hot_band"])
    hot = "" if found["p_hot"] is None else f", p_hot {found['p_hot']:.2f}{band}"
    spread = demand["reads_a_month_quantiles"]
    often = f"{demand['reads_a_month']:.3g} reads a month, likely {spread['p10']:.3g} to {spread['p90']:.3g}"
    lines.append(f"  demand     {often}{hot}")
    if said := demand["forecast"]:
        told = f"{said['reads']:.3g} reads in {said['days']:g} days, with 80 % {said['low']:g} to {said['high']:g}"
        lines.append(f"  forecast   {told} (demand {said['version']})")
    lines += [f"  because    {line}" for line in _reasons(found["prediction"])]
    lines += _votes(found["vote"])
    lines += [f"  gate       {safe(reason)}" for reason in found["gate"]]
    lines += [f"  breached   {safe(rule)}" for rule in found["breaches"]]
    if found["conflict"]:
        lines.append(f"  conflict   {safe(found['conflict']['detail'])}")
    if found["runner_up"]:
        flip = found["flips_at_reads_a_month"]
        where = "" if flip is None else f"; equal at {flip:.3g} reads a month"
        more = "more" if found["margin_usd"] >= 0 else "less"
        lines.append(f"  runner-up  {safe(found['runner_up'])}, {money(abs(found['margin_usd']))} {more}{where}")
    for peak in found["peaks"]:
        where = f"{safe(peak['storage_class'])} at {safe(peak['site'])} ({peak['state']}, plan {peak['plan_id']})"
        lines.append(f"  peak       {when(peak['begins'])} to {when(peak['ends'])}: {where}; {safe(peak['reason'])}")
    for site, prices in found["prices"].items():
        lines.append(f"  prices     {safe(site)}: {safe(prices['book'])} as of {safe(prices['as_of'])}")
    return lines


def _reasons(prediction: Json | None) -> list[str]:
    """What sets the object apart for the model that serves, a line a feature."""
    told = (prediction or {}).get("reasons") or []
    return [
        f"{safe(each['feature'])} is {each['value']:.3g}, usually {each['typical']:.3g}:"
        f" {'hotter' if each['effect'] > 0 else 'colder'} by {abs(each['effect']):.2f} log-odds"
        for each in told
    ]


def _votes(vote: Json | None) -> list[str]:
    """Who voted what at each site, with what each expects to save and goes by."""
    if vote is None:
        return []
    lines = [f"  vote       {safe(vote['no_vote'])}"] if vote["no_vote"] else []
    for site, ballot in vote["sites"].items():
        back = ", since reads there have cost enough to bring it back" if ballot["back"] else ""
        lines.append(
            f"  vote       {safe(site)}: {safe(ballot['standing'])} → {safe(ballot['target'])}{back}, "
            f"by {safe(ballot['decided_by'])} ({safe(vote['model'])})"
        )
        for one in ballot["votes"]:
            saves = f"saves {money(one['gain_usd'])}; " if one["gain_usd"] else ""
            lines.append(f"    {one['voter']:<9}{safe(one['target'])}: {saves}{safe(one['goes_by'])}")
    return lines
