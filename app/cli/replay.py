"""`foretide replay`: what every policy would have cost on a recorded trace, beside baselines and the optimum."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from app.cli.arguments import Finite, NewFile
from app.cli.output import Columns, json_option, print_json, print_rows
from app.errors import ExitCode, Invalid

if TYPE_CHECKING:
    from app.domain.prices import PriceBook
    from app.lab.pairs import PricedSite

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
SITES = "PROVIDER:REGION or BOOK.json:REGION, repeatable: sites to choose from; the first is where objects are now."
FRACTION = "Where the trace tells no sizes: the share of an object that its largest row read."


@click.command()
@click.argument("trace", type=click.Path(path_type=Path))
@click.option("--prices", show_default="aws", help=PRICES)
@click.option("--horizon", type=Finite(1, 3650), default=90.0, show_default=True, help=HORIZON)
@click.option("--policy", "policies", multiple=True, help="Show this policy and what it is compared with; repeatable.")
@click.option("--sites", "places", multiple=True, help=SITES)
@click.option("--epoch", default="1d", show_default=True, help=EPOCH)
@click.option("--read-fraction", "fraction", type=Finite(0, 1, min_open=True), default=1.0, help=FRACTION)
@click.option("--report", type=NewFile(), help="Also write a page with pictures.")
@json_option
def replay(
    trace: Path, prices: str | None, horizon: float, policies: tuple[str, ...], places: tuple[str, ...], epoch: str,
    fraction: float, report: Path | None, as_json: bool,
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
    sites, book, found = [_site(place) for place in places], _book(prices or "aws"), read_trace(trace)
    if found.rejected_total:
        first = found.rejected[0]
        click.echo(f"{found.rejected_total} lines left out; the first: line {first.line}: {first.detail}", err=True)
    days = by_day(found, fraction, length)
    done = replay_sites(found, days, sites, horizon, _Bar()) if sites else play(days, book, horizon, _Bar())
    document = {**done.document(trace.name), "epoch": epoch}
    shown = {*policies, "all_hot", "clairvoyant"} if policies else set(names)
    document["policies"] = [row for row in document["policies"] if row["name"] in shown]
    if report:
        report.write_text(page(document, {name: outcome.daily.tolist() for name, outcome in done.outcomes.items()}))
    _tell(document, report, as_json)
    return ExitCode.OK


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
    """A site from PROVIDER:REGION or BOOK.json:REGION. Raises Invalid."""
    from app.lab.pairs import PricedSite

    prices, found, region = place.rpartition(":")
    if not found or not prices or not region:
        raise Invalid(f"a site is named PROVIDER:REGION, such as aws:eu-west-1, not {place}")
    return PricedSite(_book(prices), region)


def _tell(document: dict[str, Any], report: Path | None, as_json: bool) -> None:
    if as_json:
        print_json(document)
        return
    for line in document["assumed"]:
        click.echo(f"assumed: {line}")
    print_rows(document["policies"], COLUMNS, as_json=False, nothing="Nothing was replayed.")
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
