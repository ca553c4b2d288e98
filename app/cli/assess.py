"""`foretide assess`: what would be saved, from logs or an inventory, with its uncertainty; writes to no bucket."""

from __future__ import annotations

import sys
import time
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from app.cli.arguments import Finite, NewFile
from app.cli.ingest import LOGS
from app.cli.output import Columns, json_option, money, money_of, print_json, print_rows, safe, size
from app.cli.session import connect
from app.errors import ExitCode

if TYPE_CHECKING:
    from app.domain.prices import PriceBook
    from app.lab.inventory import Inventory
    from app.lab.traces import Trace

POLICIES: Columns = {
    "POLICY": "name",
    "A MONTH": money_of("usd_a_month"),
    "SAVES": money_of("saves_usd_a_month"),
    "PERCENT": lambda row: f"{row['saves_percent']:.1f}",
    "90 % RANGE": lambda row: f"{row['low_percent']:.1f} to {row['high_percent']:.1f}",
    "MOVES": "moves",
    "FEES A MONTH": money_of("fees_usd_a_month"),
}
SCENARIOS: Columns = {
    "READS A MONTH": "reads_a_month",
    **{name: cell for name, cell in POLICIES.items() if name not in ("POLICY", "FEES A MONTH")},
    "TO": lambda row: ", ".join(f"{name} {count:,}" for name, count in row["to_class"].items() if count),
}
CLASSES: Columns = {
    "CLASS TODAY": "class",
    "OBJECTS": "objects",
    "SIZE": lambda row: size(row["bytes"]),
    "STORAGE A MONTH": money_of("usd_a_month"),
}
PRICES = "A provider's shipped book, or a file with a price book; without it the site's, else aws."
FRACTION = "Where nothing tells sizes: the share of an object that its largest row read."


@click.command()
@click.option("--logs", multiple=True, type=click.Path(path_type=Path), help="Access logs or a trace; repeatable.")
@click.option("--log-format", type=click.Choice(LOGS), help="If not recognised.")
@click.option("--inventory", type=click.Path(path_type=Path), help="CSV, Parquet, or an S3 Inventory's manifest.json.")
@click.option("--site", help="The catalogue of this site instead of an inventory file.")
@click.option("--prices", "book_name", help=PRICES)
@click.option("--archives", is_flag=True, help="Without logs: count classes too that must be restored before a read.")
@click.option("--read-fraction", "fraction", type=Finite(0, 1, min_open=True), default=1.0, help=FRACTION)
@click.option("--report", type=NewFile(), help="Also write a page with pictures.")
@json_option
def assess(
    logs: tuple[Path, ...], log_format: str | None, inventory: Path | None, site: str | None, book_name: str | None,
    archives: bool, fraction: float, report: Path | None, as_json: bool,
) -> ExitCode:  # fmt: skip
    """Show what would be saved, beside the baselines and with its uncertainty; nothing is written to any bucket.

    From LOGS by a replay, with sizes and unread objects of an inventory or a site's listing beside them if there is
    one; from an inventory or a listing alone by assumed reads.
    """
    from app.lab.assessment import from_inventory, from_logs, joined
    from app.lab.assessment_page import page

    if not (logs or inventory or site) or (inventory and site):
        raise click.UsageError("give --logs, or --inventory or --site, or logs and one of these")
    listed, book = _listed(inventory, site), _book(book_name, site)
    if logs:
        document = from_logs(joined([_trace(path, log_format) for path in logs]), book, listed, fraction, _tell)
    elif listed:
        document = from_inventory(listed, book, max(int(listed.modified.max()), _now()), archives=archives)
    if report:
        report.write_text(page(document, f"What Foretide would save: {', '.join(_names(logs, inventory, site))}"))
    if as_json:
        print_json(document)
    else:
        _show(document, report)
    return ExitCode.OK


def _names(logs: tuple[Path, ...], inventory: Path | None, site: str | None) -> list[str]:
    return [*(path.name for path in logs), *([inventory.name] if inventory else []), *([site] if site else [])]


def _now() -> int:
    return time.time_ns() // 1000


def _trace(path: Path, log_format: str | None) -> Trace:
    from app.lab.traces import read_trace

    found = read_trace(path, log_format)
    if found.rejected_total:
        first = found.rejected[0]
        told = f"{found.rejected_total} lines left out; the first: line {first.line}: {safe(first.detail)}"
        click.echo(f"{path.name}: {told}", err=True)
    return found


def _listed(inventory: Path | None, site: str | None) -> Inventory | None:
    from app.lab.inventory import read_inventory

    if inventory:
        return read_inventory(inventory)
    return _catalogue(site) if site else None


def _catalogue(site: str) -> Inventory:
    """What the catalogue knows of a site. Raises NotFound for the site, Invalid when nothing was listed yet."""
    import numpy as np

    from app.errors import Invalid
    from app.lab.inventory import Inventory

    with connect() as client:
        client.site(site)
        rows = [_row(item, site) for item in client.objects(site=site) if item["size"] is not None]
    if not rows:
        raise Invalid(f"no object of {site} is known yet; list it: foretide objects scan --site {site}")
    keys, sizes, seen, classes = zip(*sorted(rows), strict=True)
    return Inventory(list(keys), np.array(sizes, np.int64), np.array(seen, np.int64), list(classes))


def _row(item: dict[str, Any], site: str) -> tuple[str, int, int, str]:
    held = next(copy["storage_class"] for copy in item["replicas"] if copy["site"] == site)
    seen = datetime.fromisoformat(item["first_seen_at"]).timestamp()
    return item["key"], item["size"], int(seen * 1e6), held


def _book(name: str | None, site: str | None) -> PriceBook:
    """The prices that were named, the site's, or AWS's. Raises Invalid or UsageError."""
    from app.cli.prices import read_book
    from app.domain.price_books import SHIPPED
    from app.domain.price_documents import from_json

    if name is None and site:
        with connect() as client:
            return from_json(client.prices(site))
    wanted = name or "aws"
    return SHIPPED[wanted] if wanted in SHIPPED else from_json(read_book(wanted))


def _tell(name: str, number: int, of: int) -> None:
    """Says on a terminal which policy is played."""
    if sys.stderr.isatty():
        end = "" if number + 1 < of else "\r\x1b[2K"
        click.echo(f"\r\x1b[2K[{'#' * number}{'.' * (of - number)}] {name}{end}", nl=False, err=True)


def _show(document: dict[str, Any], report: Path | None) -> None:
    for line in document["assumed"]:
        click.echo(f"assumed: {safe(line)}")
    if document["today"]:
        print_rows(document["today"]["classes"], CLASSES, as_json=False, nothing="")
    if document["kind"] == "logs":
        print_rows(document["policies"], POLICIES, as_json=False, nothing="")
        ours = document["policies"][0]
        click.echo(
            f"foretide saves {money(ours['saves_usd_a_month'])} of {money(document['all_hot_usd_a_month'])} a month: "
            f"{ours['saves_percent']:.1f} %, in 90 of 100 resamples {ours['low_percent']:.1f} to "
            f"{ours['high_percent']:.1f} %"
        )
    else:
        print_rows(document["scenarios"], SCENARIOS, as_json=False, nothing="")
        low, high = document["range"]["low_usd_a_month"], document["range"]["high_usd_a_month"]
        click.echo(f"{money(low)} to {money(high)} a month, by how often the objects are read")
    prices = document["prices"]
    sample = ", sample prices" if prices["sample"] else ""
    book = f"{safe(prices['book'])} of {prices['as_of']}{sample}"
    click.echo(f"{document['objects']:,} objects, {size(document['bytes'])}; {book}")
    for line in document["notes"]:
        click.echo(safe(line), err=True)
    if report:
        click.echo(f"report: {report}")
