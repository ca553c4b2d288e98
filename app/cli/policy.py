"""`foretide policy`: shows and replaces the rules that plans and moves obey."""

from __future__ import annotations

import json

import click

from app.cli.output import Columns, Json, json_option, print_json, print_rows, when_of
from app.cli.session import agreed, connect, follow, wait_options, yes_options
from app.cli.what_if import show_comparison
from app.domain.policy_documents import POLICIES

NAME = click.Choice([name for name in POLICIES if name != "mode"])
VERSIONS: Columns = {
    "VERSION": "version",
    "BY": "created_by",
    "AT": when_of("created_at"),
    "DOCUMENT": "document",
}
CHANGES: Columns = {
    "FIELD": "pointer",
    "CHANGE": "change",
    "OLD": lambda change: json.dumps(change["old"], ensure_ascii=False),
    "NEW": lambda change: json.dumps(change["new"], ensure_ascii=False),
}


@click.group()
def policy() -> None:
    """Show and set the rules that plans and moves obey."""


@policy.command()
@click.argument("name", type=NAME)
def show(name: str) -> None:
    """Print a policy's document as JSON."""
    with connect() as client:
        print_json(client.policy(name)[0])


@policy.command()
@click.argument("name", type=NAME)
@json_option
def versions(name: str, as_json: bool) -> None:
    """List a policy's versions, newest first."""
    with connect() as client:
        nothing = f"The {name} policy has its defaults. Next: foretide policy set {name}"
        print_rows(client.policy_versions(name), VERSIONS, as_json=as_json, nothing=nothing)


@policy.command()
@click.argument("name", type=NAME)
@click.argument("old", type=click.IntRange(min=0), required=False)
@click.argument("new", type=click.IntRange(min=0), required=False)
@json_option
def diff(name: str, old: int | None, new: int | None, as_json: bool) -> None:
    """Show what differs between two versions: the newest and the one before it, or OLD and NEW; 0 is the defaults."""
    with connect() as client:
        found = client.policy_diff(name, old, new)
    if as_json:
        print_json(found)
        return
    nothing = f"Versions {found['from']} and {found['to']} say the same."
    print_rows(found["changes"], CHANGES, as_json=False, nothing=nothing)


@policy.command()
@click.argument("name", type=NAME)
@click.argument("fields", nargs=-1, required=True, metavar="DOCUMENT | FIELD=VALUE…")
@wait_options
def preview(name: str, fields: tuple[str, ...], wait: bool, timeout: float | None, as_json: bool) -> None:
    """Show what a change of a policy would touch, as `set` takes it; nothing is changed."""
    with connect() as client:
        started = client.preview_policy(name, wanted(client.policy(name)[0], fields))
        ended = follow(client, started, wait=wait, timeout=timeout)
    show_comparison(ended, as_json=as_json, waited=wait)


@policy.command("set")
@click.argument("name", type=NAME)
@click.argument("fields", nargs=-1, required=True, metavar="DOCUMENT | FIELD=VALUE…")
@yes_options
def set_policy(name: str, fields: tuple[str, ...], yes: bool, dry_run: bool) -> None:
    """Replace a policy by a JSON document, or change some of its fields (dots go deeper: default.rf=2)."""
    with connect() as client:
        document, etag = client.policy(name)
        new = wanted(document, fields)
        if agreed(f"set the {name} policy to {json.dumps(new)}", yes=yes, dry_run=dry_run):
            print_json(client.set_policy(name, new, etag))


@policy.command()
@click.option("--enforce/--no-enforce", required=True, help="Refuse moves to sites that do not encrypt.")
@yes_options
def security(enforce: bool, yes: bool, dry_run: bool) -> None:
    """Say whether copies may only go to encrypted sites."""
    with connect() as client:
        document, etag = client.policy("security")
        effect = "refuse moves to sites that do not encrypt" if enforce else "allow moves to sites that do not encrypt"
        if agreed(effect, yes=yes, dry_run=dry_run):
            print_json(client.set_policy("security", {**document, "enforce": enforce}, etag))


def wanted(document: Json, fields: tuple[str, ...]) -> Json:
    """The document that the fields make of one: a whole document, or FIELD=VALUE…. Raises UsageError."""
    return parse(fields[0]) if fields[0].lstrip().startswith("{") else changed(document, fields)


def parse(text: str) -> Json:
    """A document given as JSON. Raises UsageError."""
    try:
        document: Json = json.loads(text)
    except ValueError as error:
        raise click.UsageError(f"the document is not JSON: {error}") from error
    return document


def changed(document: Json, fields: tuple[str, ...]) -> Json:
    """A copy of the document with each FIELD=VALUE set; a value that is not JSON is a text."""
    copy: Json = json.loads(json.dumps(document))
    for field in fields:
        path, equals, text = field.partition("=")
        if not equals:
            raise click.UsageError(f"{field}: FIELD=VALUE is expected")
        *outer, last = path.split(".")
        place = copy
        for part in outer:
            place = place.setdefault(part, {})
            if not isinstance(place, dict):
                raise click.UsageError(f"{path}: {part} has no fields")
        try:
            place[last] = json.loads(text)
        except ValueError:
            place[last] = text
    return copy
