"""`foretide replay`: what every policy would have cost on a recorded trace, beside baselines and the optimum."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from app.cli.arguments import Finite, NewFile
from app.cli.output import Columns, json_option, print_json, print_rows
from app.errors import ExitCode, Invalid

if TYPE_CHECKING:
    from app.domain.prices import PriceBook
    from app.lab.days import Days
    from app.lab.pairs import PricedSite
    from app.lab.replay import Replay
    from app.lab.sites_replay import SitesReplay
    from app.lab.traces import Trace

COLUMNS: Columns = {
    "POLICY": "name",
    "COST $": lambda row: f"{row['cost']:,.2f}",
    "% OF ALL-HOT": lambda row: _number(row["percent_of_all_hot"]),
    "GAP CLOSED %": lambda row: _number(row["gap_closed"]),
    "REGRET $": lambda row: f"{row['regret']:,.2f}",
    "FEES $": lambda row: f"{row['fees']:,.2f}",
    "MOVES": lambda row: f"{row['moves']:,}",
    "PAID BACK": lambda row: _number(row["paid_back"], 100, "%"),
    "DECIDED BY": "decided_by",
}


def _number(value: float | None, times: float = 1, unit: str = "") -> str:
    return "–" if value is None else f"{value * times:.1f}{unit}"


PRICES = "A provider's shipped book, or a file with a price book as JSON."
HORIZON = "Days that the rate voter looks ahead."
EPOCH = "How often is decided: 6h, 8h, 12h, or whole days such as 7d."
SITES = (
    "PROVIDER:REGION or BOOK.json:REGION, repeatable: sites to choose from; the first is where objects are now. "
    "@MS after it says how fast it answers."
)
SLA = "With --sites: reads of pre-warmed objects that are answered later count as missed."
FRACTION = "Where the trace tells no sizes: the share of an object that its largest row read."


@click.command()
@click.argument("trace", type=click.Path(path_type=Path))
@click.option("--prices", show_default="aws", help=PRICES)
@click.option("--horizon", type=Finite(1, 3650), default=90.0, show_default=True, help=HORIZON)
@click.option("--policy", "policies", multiple=True, help="Show this policy and what it is compared with; repeatable.")
@click.option("--sites", "places", multiple=True, help=SITES)
@click.option("--sla-ms", type=Finite(0, 3_600_000, min_open=True), help=SLA)
@click.option("--epoch", default="1d", show_default=True, help=EPOCH)
@click.option("--read-fraction", "fraction", type=Finite(0, 1, min_open=True), default=1.0, help=FRACTION)
@click.option("--report", type=NewFile(), help="Also write a page with pictures.")
@json_option
def replay(
    trace: Path, prices: str | None, horizon: float, policies: tuple[str, ...], places: tuple[str, ...],
    sla_ms: float | None, epoch: str, fraction: float, report: Path | None, as_json: bool,
) -> int:  # fmt: skip
    """Replay TRACE (Parquet or CSV: ts or date, object, bytes[, op, size, count]) under every policy.

    Policies learn on the first half; all costs are of the second. Nothing is sent anywhere.
    """
    from app.lab.days import by_day
    from app.lab.epochs import Epoch
    from app.lab.replay import NAMES
    from app.lab.replay import replay as play
    from app.lab.replay_page import page
    from app.lab.sites_replay import NAMES as OVER_SITES
    from app.lab.sites_replay import replay_sites
    from app.lab.traces import read_trace

    names = OVER_SITES if places else NAMES
    unknown = sorted(set(policies) - set(names))
    if unknown:
        raise click.UsageError(f"there is no policy {', '.join(unknown)}; there are {', '.join(names)}")
    if places and prices:
        raise click.UsageError("--sites name their prices themselves; leave --prices out")
    if places and epoch != "1d":
        raise click.UsageError("over several sites is decided once a day; leave --epoch out")
    length = Epoch.parse(epoch)
    sites, book = [_site(place) for place in places], _book(prices or "aws")
    if sla_ms and (not sites or any(site.latency_ms is None for site in sites)):
        raise click.UsageError("--sla-ms needs --sites, each with its latency: PROVIDER:REGION@MS")
    found = read_trace(trace)
    if found.rejected_total:
        first = found.rejected[0]
        click.echo(f"{found.rejected_total} lines left out; the first: line {first.line}: {first.detail}", err=True)
    days = by_day(found, fraction, length)
    done = replay_sites(found, days, sites, horizon, _Bar()) if sites else play(days, book, horizon, _Bar())
    document = {**done.document(trace.name), "epoch": epoch}
    _prewarm(document, found, days, done, sla_ms)
    shown = {*policies, "all_hot", "clairvoyant"} if policies else set(names)
    document["policies"] = [row for row in document["policies"] if row["name"] in shown]
    if report:
        report.write_text(page(document, {name: outcome.daily.tolist() for name, outcome in done.outcomes.items()}))
    _tell(document, report, as_json)
    return ExitCode.OK


def _prewarm(
    document: dict[str, Any], trace: Trace, days: Days, done: Replay | SitesReplay, sla_ms: float | None
) -> None:
    """Adds what pre-warming for recurring peaks would have come to."""
    from datetime import timedelta

    from app.lab.prewarming_market import one_site, several_sites
    from app.lab.prewarming_replay import DAILY, prewarmed
    from app.lab.replay import Replay
    from app.settings import get_settings

    market = (
        one_site(done.book, trace, days.size)
        if isinstance(done, Replay)
        else several_sites(done.sites, trace, days.size, sla_ms)
    )
    settings, own = get_settings(), done.outcomes["foretide"]
    grace, every = timedelta(seconds=settings.grace_s), timedelta(seconds=settings.prewarm_every_s)
    found = prewarmed(trace, days, market, own.where, own.usd.sum(axis=1), grace, every, _Bar())
    document["prewarming"] = found.document() if found else None
    document["notes"] = {**document["notes"], "prewarming": found.note if found else DAILY}


class _Bar:
    """A line on a terminal that says which policy is played."""

    def __call__(self, name: str, number: int, of: int) -> None:
        import sys

        if sys.stderr.isatty():
            end = "" if number + 1 < of else "\r\x1b[2K"
            click.echo(f"\r\x1b[2K[{'#' * number}{'.' * (of - number)}] {name}{end}", nl=False, err=True)


def _book(prices: str) -> PriceBook:
    """A shipped book by its provider's name, or the one in a file. Raises Invalid."""
    from app.domain.price_books import SHIPPED
    from app.domain.price_documents import from_json

    if prices in SHIPPED:
        return SHIPPED[prices]
    path = Path(prices)
    if not path.is_file():
        raise Invalid(f"{prices} is neither a provider with a shipped book ({', '.join(SHIPPED)}) nor a file")
    try:
        document: Any = json.loads(path.read_text())
    except (ValueError, OSError) as error:
        raise Invalid(f"{prices} cannot be read as JSON: {error}") from None
    return from_json(document)


def _site(place: str) -> PricedSite:
    """A site from PROVIDER:REGION or BOOK.json:REGION, at will @MS. Raises Invalid."""
    from app.lab.pairs import PricedSite

    prices, found, rest = place.rpartition(":")
    region, timed, latency = rest.partition("@")
    if not found or not prices or not region:
        raise Invalid(f"a site is named PROVIDER:REGION, such as aws:eu-west-1, not {place}")
    if timed and not re.fullmatch(r"[0-9]{1,6}(\.[0-9]+)?", latency):
        raise Invalid(f"a site's latency is a number of milliseconds, such as aws:eu-west-1@40, not {place}")
    return PricedSite(_book(prices), region, float(latency) if timed else None)


def _tell(document: dict[str, Any], report: Path | None, as_json: bool) -> None:
    if as_json:
        print_json(document)
        return
    for line in document["assumed"]:
        click.echo(f"assumed: {line}")
    print_rows(document["policies"], COLUMNS, as_json=False, nothing="Nothing was replayed.")
    click.echo(f"pre-warming: {_prewarming(document)}")
    prices = document["prices"]
    sample = ", sample prices" if prices["sample"] else ""
    books = document.get("sites") or [{"book": prices["book"], "as_of": prices["as_of"]}]
    dated = ", ".join(f"{site['book']} of {site['as_of']}" for site in books)
    click.echo(
        f"{document['objects']:,} objects, {document['split']} to {document['end']} after learning from "
        f"{document['begin']} on; {', '.join(prices['classes'])}; {dated}{sample}"
    )
    if report:
        click.echo(f"report: {report}")


def _prewarming(document: dict[str, Any]) -> str:
    """Its line below the table."""
    found = document["prewarming"]
    if not found:
        return str(document["notes"]["prewarming"])
    return (
        f"{found['met']:,} of {found['peaks']:,} peaks met, {found['missed']:,} missed, {found['false']:,} copies for "
        f"nothing; ${found['usd_with']:,.2f} with and ${found['usd_without']:,.2f} without; SLA misses "
        f"{found['sla_misses_with']:,} with and {found['sla_misses_without']:,} without"
    )
