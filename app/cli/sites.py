"""`foretide sites`: registers, probes and removes the buckets in which objects live."""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal
from itertools import islice
from typing import Any, TextIO

import click

from app.cli.arguments import Finite
from app.cli.output import Columns, Json, json_option, print_item, print_json, print_rows, safe, size_of, when_of
from app.cli.policy import changed
from app.cli.session import agreed, connect, finish, follow, wait_options, yes_options
from app.domain.scrub import FindingKind
from app.errors import ExitCode

COLUMNS: Columns = {
    "NAME": "name",
    "STATE": "state",
    "PROVIDER": "provider",
    "REGION": "region",
    "CLASSES": lambda site: ", ".join(site.get("classes") or []),
    "ENDPOINT": "endpoint_url",
    "BUCKET": "bucket",
    "REASON": "reason",
}
FIELDS: Columns = {
    **COLUMNS,
    "LATENCY MS": "latency_ms",
    "CAPACITY": size_of("capacity_bytes"),
    "READS/S AT MOST": "max_request_rate",
    "PROBED AT": when_of("probed_at"),
    "KMS KEYS": "kms_keys",
    "CAPABILITIES": "capabilities",
    "EVACUATION": "evacuation",
}

UNITS = {"": 1} | {
    name + kind: base**power for kind, base in (("B", 1000), ("iB", 1024)) for power, name in enumerate("KMGTPE", 1)
}
FINDINGS: Columns = {
    "KIND": "kind",
    "WHY": "why",
    "KEY": "key",
    "SIZE": size_of("size"),
    "FIRST SEEN": when_of("first_seen_at"),
    "LAST SEEN": when_of("last_seen_at"),
}


class Amount(click.ParamType[int]):
    """Bytes, plain or with a unit such as GB or GiB."""

    name = "bytes"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """The number of bytes. Fails with what is expected."""
        found = re.fullmatch(r"(\d{1,20}(?:\.\d{1,20})?) ?(?:B|([KMGTPE]i?B))?", str(value))
        if found is None:
            self.fail(f"{value}: bytes are expected, such as 750000000000, 500GB or 2.5TiB", param, ctx)
        return int(Decimal(found[1]) * UNITS[found[2] or ""])


def limit_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds --capacity and --max-request-rate."""
    capacity = "What all copies there may take together, such as 500GB or 2TiB."
    rate = "Reads a second that plans give it at most, on the average of a day."
    above_zero = Finite(min=0, min_open=True)
    command = click.option("--max-request-rate", type=above_zero, help=rate)(command)
    return click.option("--capacity", "capacity_bytes", type=Amount(), help=capacity)(command)


@click.group()
def sites() -> None:
    """Register, probe and remove the buckets in which objects live."""


@sites.command("list")
@json_option
def list_sites(as_json: bool) -> None:
    """List the sites with their states."""
    with connect() as client:
        nothing = "There are no sites yet. Next: foretide sites add"
        print_rows(client.sites(), COLUMNS, as_json=as_json, nothing=nothing)


@sites.command()
@click.argument("name")
@json_option
def show(name: str, as_json: bool) -> None:
    """Show a site and what its probe found."""
    with connect() as client:
        print_item(client.site(name), FIELDS, as_json=as_json)


@sites.command()
@click.argument("name")
@click.option("--provider", required=True, help="aws, gcp, azure, cloudflare or another name; its price book is used.")
@click.option("--region", required=True, help="The provider's name of the region.")
@click.option("--endpoint-url", required=True, help="URL of the S3 endpoint.")
@click.option("--bucket", required=True, help="A bucket that exists.")
@click.option("--access-key", required=True, help="Id of the access key.")
@click.option("--secret-key", help="Its secret; others on this machine can see it: better is the next one.")
@click.option("--secret-key-file", type=click.File(), help="A file with the secret, - for stdin.")
@click.option("--class", "classes", multiple=True, help="A storage class that may be used; may be given again.")
@click.option("--latency-ms", type=click.FloatRange(min=0), help="Usual time to the first byte, before it is measured.")
@limit_options
@wait_options
def add(
    name: str,
    secret_key: str | None,
    secret_key_file: TextIO | None,
    wait: bool,
    timeout: float | None,
    as_json: bool,
    **given: object,
) -> ExitCode:
    """Register a site, wait for its probe and show what the probe found."""
    if secret_key_file:
        secret_key = secret_key_file.read().strip()
    if not secret_key:
        secret_key = click.prompt("Secret key", hide_input=True, err=True)
    site: Json = {"name": name, "secret_key": secret_key} | {k: v for k, v in given.items() if v not in (None, ())}
    with connect() as client:
        added = client.add_site(site)
        if wait:
            follow(client, client.job(added["job_id"]), wait=True, timeout=timeout)
            added = client.site(name)
        print_item(added, FIELDS, as_json=as_json)
    if added["state"] not in ("ready", "probing"):
        click.echo(f"{name} is not used before its probe passes: {added.get('reason')}", err=True)
        return ExitCode.FAILED
    return ExitCode.OK


@sites.command()
@click.argument("name")
@wait_options
def probe(name: str, wait: bool, timeout: float | None, as_json: bool) -> None:
    """Probe a site again."""
    with connect() as client:
        finish(client, client.probe_site(name), wait=wait, timeout=timeout, as_json=as_json)


@sites.command()
@click.argument("name")
@click.argument("fields", nargs=-1, metavar="FIELD=VALUE…")
@limit_options
@yes_options
@json_option
def change(name: str, fields: tuple[str, ...], yes: bool, dry_run: bool, as_json: bool, **limits: float | None) -> None:
    """Change some of a site: latency_ms=20 encryption_declared=true capacity_bytes=null kms_keys='{"*": "alias/cold"}'.

    A limit of null is lifted.
    """
    given = {field: value for field, value in limits.items() if value is not None}
    if not fields and not given:
        raise click.UsageError("FIELD=VALUE, --capacity or --max-request-rate is expected")
    with connect() as client:
        site, etag = client.site_document(name)
        chosen = {field.partition("=")[0].partition(".")[0] for field in fields}
        wanted = changed({known: site[known] for known in chosen & site.keys()}, fields) | given
        if agreed(f"set {', '.join(sorted(wanted))} of the site {name}", yes=yes, dry_run=dry_run):
            print_item(client.change_site(name, wanted, etag), FIELDS, as_json=as_json)


@sites.command()
@click.argument("name")
@yes_options
def remove(name: str, yes: bool, dry_run: bool) -> None:
    """Forget a site; refused while it holds the last replica of an object."""
    with connect() as client:
        client.site(name)
        if agreed(f"forget the site {name}; its bucket is not touched", yes=yes, dry_run=dry_run):
            client.remove_site(name)


@sites.command()
@click.argument("name")
@click.option("--mode", type=click.Choice(["observe", "approve", "auto"]), default="observe", show_default=True)
@click.option("--principal", metavar="ARN", help="Whom AWS's document names, which makes it a bucket policy.")
@json_option
def policy(name: str, mode: str, principal: str | None, as_json: bool) -> None:
    """Print the least that a site's credentials must be allowed in a mode."""
    with connect() as client:
        found = client.site_policy(name, mode, principal)
    if as_json or found["policy"]:
        print_json(found if as_json else found["policy"])
    else:
        click.echo("\n".join(found["roles"]))
    for note in () if as_json else found["notes"]:
        click.echo(safe(note), err=True)


@sites.command()
@click.argument("name")
def prices(name: str) -> None:
    """Print a site's price book as JSON, with its source and date."""
    with connect() as client:
        print_json(client.prices(name))


@sites.command()
@click.argument("name")
@click.option("--deep", is_flag=True, help="Read every replica again and compare its bytes.")
@click.option("--prefix", help="Only keys that begin so.")
@click.option("--dry-run", is_flag=True, help="Only count, and tell what --deep would cost at most.")
@wait_options
def scrub(
    name: str, deep: bool, prefix: str | None, dry_run: bool, wait: bool, timeout: float | None, as_json: bool
) -> ExitCode:
    """Compare a site with the catalogue: what is dark, missing or corrupt."""
    with connect() as client:
        started = client.scrub_site(name, deep=deep, dry_run=dry_run, prefix=prefix)
        ended = finish(client, started, wait=wait, timeout=timeout, as_json=as_json)
        found = (ended.get("result") or {}).get("found")
        if found and not dry_run:
            click.echo(f"Next: foretide sites findings {name}", err=True)
        return ExitCode.PARTIAL if found else ExitCode.OK


@sites.command()
@click.argument("name")
@click.option("--kind", type=click.Choice([kind.value for kind in FindingKind]), help="Only these.")
@click.option("--resolved", is_flag=True, help="Those that are over instead of those that are open.")
@click.option("--limit", type=click.IntRange(min=1), default=100, show_default=True, help="At most so many.")
@json_option
def findings(name: str, kind: str | None, resolved: bool, limit: int, as_json: bool) -> None:
    """List what a site's scrubs have found."""
    with connect() as client:
        found = islice(client.findings(name, kind=kind, resolved=resolved or None), limit)
        nothing = f"Nothing was found. Next: foretide sites scrub {name}"
        print_rows(found, FINDINGS, as_json=as_json, nothing=nothing)


@sites.command()
@click.argument("name")
@click.option("--prefix", help="Only keys that begin so.")
@yes_options
@wait_options
def tidy(
    name: str, prefix: str | None, yes: bool, dry_run: bool, wait: bool, timeout: float | None, as_json: bool
) -> None:
    """Remove copies that nothing reads any more, and uploads that nobody will finish."""
    with connect() as client:
        if dry_run or agreed(f"remove what moves have left at {name}", yes=yes):
            started = client.tidy_site(name, dry_run=dry_run, prefix=prefix)
            finish(client, started, wait=wait, timeout=timeout, as_json=as_json)


@sites.command()
@click.argument("name")
@yes_options
@json_option
def drain(name: str, yes: bool, dry_run: bool, as_json: bool) -> None:
    """Let a site receive nothing more; what it holds stays readable."""
    with connect() as client:
        client.site(name)
        if agreed(f"move nothing more to {name}", yes=yes, dry_run=dry_run):
            print_item(client.drain_site(name), FIELDS, as_json=as_json)


@sites.command()
@click.argument("name")
@yes_options
@json_option
def undrain(name: str, yes: bool, dry_run: bool, as_json: bool) -> None:
    """Use a drained site again, once its probe has passed."""
    with connect() as client:
        client.site(name)
        if agreed(f"use {name} again", yes=yes, dry_run=dry_run):
            print_item(client.undrain_site(name), FIELDS, as_json=as_json)


@sites.command()
@click.argument("name")
@yes_options
@wait_options
def evacuate(name: str, yes: bool, dry_run: bool, wait: bool, timeout: float | None, as_json: bool) -> None:
    """Drain a site and move what it holds to the cheapest sites that the rules allow."""
    with connect() as client:
        client.site(name)
        if dry_run or agreed(f"move everything that may go away from {name}", yes=yes):
            started = client.evacuate_site(name, dry_run=dry_run)
            finish(client, started, wait=wait, timeout=timeout, as_json=as_json)
