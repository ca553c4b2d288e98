"""`foretide prices`: lists, shows and changes the dated price books that plans go by."""

from __future__ import annotations

import json
from pathlib import Path

import click

from app.cli.output import Columns, Json, json_option, print_json, print_rows, safe
from app.cli.session import agreed, connect, yes_options


def _bands(entry: Json) -> str:
    """Volume bands, and what a managed class falls to."""
    bands = [band["usd"] + (f" to {band['up_to_gb']} GB" if band["up_to_gb"] else "") for band in entry["storage"]]
    return ", ".join([*bands, *(f"{step['usd']} idle {step['after_days']} d" for step in entry["idle_steps"])])


BOOKS: Columns = {
    "BOOK": lambda row: row["book"]["name"],
    "AS OF": lambda row: row["book"]["as_of"],
    "KIND": lambda row: ("shipped" if row["shipped"] else "own") + (", sample" if row["book"]["sample"] else ""),
    "SITES": lambda row: ", ".join(row["sites"]),
    "CLASSES": lambda row: ", ".join(entry["name"] for entry in row["book"]["classes"]),
    "SOURCE": lambda row: row["book"]["source"],
}
CLASSES: Columns = {
    "CLASS": "name",
    "STORAGE GB-MONTH": _bands,
    "PUT /1K": "put_per_1k",
    "GET /1K": "get_per_1k",
    "LIST /1K": "list_per_1k",
    "RETRIEVAL GB": "retrieval_per_gb",
    "CHANGE /1K": lambda entry: entry["transition_per_1k"] or "as a PUT",
    "LEAST DAYS": "min_days",
    "LEAST BYTES": "min_bytes",
    "OVERHEAD": lambda entry: entry["overhead_bytes"] + entry["hot_overhead_bytes"],
    "WATCHING /1K": "monitoring_per_1k",
}


@click.group()
def prices() -> None:
    """List, show and change the price books that plans go by."""


@prices.command("list")
@json_option
def list_books(as_json: bool) -> None:
    """List the books, shipped and sites' own, with source and date."""
    with connect() as client:
        print_rows(client.price_books(), BOOKS, as_json=as_json, nothing="There are no price books.")


@prices.command()
@click.argument("site")
@json_option
def show(site: str, as_json: bool) -> None:
    """Show a site's prices as a table; --json prints the book as `set` takes it."""
    with connect() as client:
        book = client.prices(site)
    if as_json:
        print_json(book)
        return
    sample = ", sample prices" if book["sample"] else ""
    click.echo(f"{safe(book['name'])} as of {book['as_of']}{sample}: {safe(book['source'])}")
    egress = ", ".join(f"{name.replace('_', ' ')} {usd}" for name, usd in book["egress"].items())
    click.echo(f"egress, dollars a GB: {egress}")
    print_rows(book["classes"], CLASSES, as_json=False, nothing="It prices no class.")


@prices.command("set")
@click.argument("site")
@click.argument("fields", nargs=-1, required=True, metavar="FILE | FIELD=VALUE…")
@yes_options
def set_prices(site: str, fields: tuple[str, ...], yes: bool, dry_run: bool) -> None:
    """Give a site prices of its own: a book in FILE, or the present one with fields changed.

    A field is CLASS.field, egress.field or one of the book's own: STANDARD_IA.retrieval_per_gb=0.02 as_of=2026-01-01.
    """
    with connect() as client:
        if "=" in fields[0]:
            present, etag = client.price_document(site)
            book = changed(present, fields)
        else:
            book, etag = read_book(fields[0]), None
        if agreed(
            f"give {site} the prices {safe(book.get('name'))} of {safe(book.get('as_of'))}", yes=yes, dry_run=dry_run
        ):
            print_json(client.set_prices(site, book, etag))


@prices.command()
@click.argument("site")
@yes_options
def reset(site: str, yes: bool, dry_run: bool) -> None:
    """Give a site the shipped prices of its provider again."""
    with connect() as client:
        client.site(site)
        if agreed(f"give {site} the shipped prices of its provider", yes=yes, dry_run=dry_run):
            print_json(client.reset_prices(site))


def read_book(path: str) -> Json:
    """The document in a file. Raises UsageError."""
    try:
        document: Json = json.loads(Path(path).read_text())
    except (OSError, ValueError) as error:
        raise click.UsageError(f"{path} cannot be read as JSON: {error}") from error
    if not isinstance(document, dict):
        raise click.UsageError(f"{path} holds no price book: a JSON object is expected")
    return document


def changed(book: Json, fields: tuple[str, ...]) -> Json:
    """A copy of the book with each FIELD=VALUE set; a value that is no JSON object or list is taken as text.

    Raises UsageError for a class or a part that the book has not.
    """
    copy: Json = json.loads(json.dumps(book))
    classes = {entry["name"]: entry for entry in copy["classes"]}
    for given in fields:
        path, equals, text = given.partition("=")
        where, dot, name = path.rpartition(".")
        if not equals:
            raise click.UsageError(f"{given}: FIELD=VALUE is expected")
        place = copy if not dot else copy["egress"] if where == "egress" else classes.get(where)
        if place is None:
            raise click.UsageError(f"{path}: the book has no class {where}; it has {', '.join(classes)}")
        try:
            value = json.loads(text)
        except ValueError:
            value = text
        place[name] = str(text) if isinstance(value, float) else value
    return copy
