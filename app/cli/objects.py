"""`foretide objects`: lists the catalogue, shows an object's replicas, takes an inventory."""

from __future__ import annotations

from itertools import islice

import click

from app.cli.output import Columns, Json, json_option, print_item, print_rows, safe, size_of
from app.cli.session import agreed, connect, finish, proven, wait_options, yes_options
from app.domain.states import ObjectState
from app.errors import ExitCode, NotFound


def where(item: Json) -> str:
    """The object's replicas in a few words: site, class, and the state unless it serves."""
    told = []
    for replica in item.get("replicas") or []:
        state = "" if replica["state"] == "serving" else f" ({replica['state']})"
        told.append(f"{replica['site']}/{replica['storage_class']}{state}")
    return ", ".join(told)


COLUMNS: Columns = {
    "ID": "id",
    "KEY": "key",
    "SIZE": size_of("size"),
    "STATE": "state",
    "TIER": "tier",
    "REPLICAS": where,
}
FIELDS: Columns = {**COLUMNS, "VERSION": "version", "TAGS": "tags", "PREDICTION": "prediction"}


@click.group()
def objects() -> None:
    """List the catalogue, show an object, take an inventory."""


@objects.command("list")
@click.option("--site", help="Only those with a replica there.")
@click.option("--tier", type=click.Choice(["hot", "warm", "cold"]), help="Only those that are read so.")
@click.option("--prefix", help="Only keys that begin so.")
@click.option("--state", type=click.Choice([state.value for state in ObjectState]), help="Only those in this state.")
@click.option("--limit", type=click.IntRange(min=1), default=100, show_default=True, help="At most so many.")
@json_option
def list_objects(limit: int, as_json: bool, **filters: str | None) -> None:
    """List objects with their replicas."""
    with connect() as client:
        nothing = "No object matches. Next: foretide objects scan"
        print_rows(islice(client.objects(**filters), limit), COLUMNS, as_json=as_json, nothing=nothing)


@objects.command()
@click.argument("key")
@json_option
def show(key: str, as_json: bool) -> None:
    """Show the object of this key."""
    with connect() as client:
        found = next(client.objects(key=key), None)
        if found is None:
            raise NotFound(f"there is no object {key}")
        print_item(client.object(found["id"]), FIELDS, as_json=as_json)


@objects.command()
@click.argument("key")
@click.argument("tags", nargs=-1, required=True, metavar="NAME=VALUE…")
@yes_options
@json_option
def tag(key: str, tags: tuple[str, ...], yes: bool, dry_run: bool, as_json: bool) -> None:
    """Set tags of an object in the catalogue, which residency may go by; NAME= takes one away."""
    with connect() as client:
        named = next(client.objects(key=key), None)
        if named is None:
            raise NotFound(f"there is no object {key}")
        found, etag = client.object_document(named["id"])
        new: dict[str, str] = dict(found["tags"])
        for given in tags:
            name, equals, value = given.partition("=")
            if not (name and equals):
                raise click.UsageError(f"{given}: NAME=VALUE is expected")
            new.pop(name, None)
            new |= {name: value} if value else {}
        if agreed(f"set the tags of {safe(key)} to {new}", yes=yes, dry_run=dry_run):
            print_item(client.tag_object(found["id"], new, etag), FIELDS, as_json=as_json)


@objects.command()
@click.option("--site", help="Only this site; without it, all.")
@click.option("--believe-absent", is_flag=True, help="What two scans missed was deleted, however much it is.")
@click.option("--tags", is_flag=True, help="Also read each object's tags, a request each, for residency by tag.")
@wait_options
def scan(site: str | None, believe_absent: bool, tags: bool, wait: bool, timeout: float | None, as_json: bool) -> None:
    """List the buckets and bring the catalogue up to date."""
    with connect() as client:
        job = client.scan(site, believe_absent=believe_absent, tags=tags)
        finish(client, job, wait=wait, timeout=timeout, as_json=as_json)


@objects.command()
@click.option("--prefix", help="Only keys that begin so.")
@click.option("--key", "keys", multiple=True, help="Only this key; may be given again.")
@click.option("--site", help="Only replicas there.")
@click.option("--dry-run", is_flag=True, help="Only tell what reading costs at most.")
@wait_options
def verify(
    keys: tuple[str, ...], dry_run: bool, wait: bool, timeout: float | None, as_json: bool, **selection: str | None
) -> ExitCode:
    """Read replicas again and compare them with what was recorded; wrong ones are not read any more."""
    with connect() as client:
        started = client.verify_objects(keys=list(keys) or None, dry_run=dry_run, **selection)
        return proven(finish(client, started, wait=wait, timeout=timeout, as_json=as_json))


@objects.command()
@click.option("--prefix", help="Only keys that begin so.")
@click.option("--key", "keys", multiple=True, help="Only this key; may be given again.")
@click.option("--apply", is_flag=True, help="Also carry out the plan of copies.")
@yes_options
@wait_options
def repair(
    prefix: str | None,
    keys: tuple[str, ...],
    apply: bool,
    yes: bool,
    dry_run: bool,
    wait: bool,
    timeout: float | None,
    as_json: bool,
) -> None:
    """Plan copies of objects that lack some, or whose copies are lost or corrupt."""
    with connect() as client:
        if apply and not dry_run and not agreed("copy what objects lack, as a plan at once", yes=yes):
            return
        started = client.repair(prefix=prefix, keys=list(keys) or None, apply=apply, dry_run=dry_run)
        ended = finish(client, started, wait=wait, timeout=timeout, as_json=as_json)
        plan_id = (ended.get("result") or {}).get("plan_id")
        if plan_id and not apply:
            click.echo(f"Next: foretide plan apply {plan_id}", err=True)


@objects.command("remove-copies")
@click.argument("keys", nargs=-1, required=True)
@yes_options
@wait_options
def remove_copies(
    keys: tuple[str, ...], yes: bool, dry_run: bool, wait: bool, timeout: float | None, as_json: bool
) -> None:
    """Remove what is left of objects that their owner has deleted."""
    with connect() as client:
        if dry_run or agreed(f"delete every copy of {len(keys)} deleted objects", yes=yes):
            started = client.remove_copies(list(keys), dry_run=dry_run)
            finish(client, started, wait=wait, timeout=timeout, as_json=as_json)
