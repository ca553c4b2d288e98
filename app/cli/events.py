"""`foretide events`: topics and their events, the groups that consume them, and what they could not handle."""

from __future__ import annotations

import json
from itertools import islice
from typing import IO, Any

import click

from app.cli.lines import SHOWN, unpacked
from app.cli.output import Columns, json_option, print_rows, safe, size_of, when_of
from app.cli.session import agreed, connect, yes_options
from app.domain.states import DeadLetterState
from app.errors import ExitCode

BATCH = 1000
TOPICS: Columns = {
    "TOPIC": "name",
    "EVENTS": "next_offset",
    "FIRST": "first_offset",
    "SIZE": size_of("bytes"),
    "REJECTED": "rejected",
    "NEWEST": when_of("published_at"),
    "LAG": lambda topic: ", ".join(f"{group['name']} {group['lag']}" for group in topic["groups"]),
}
GROUPS: Columns = {
    "GROUP": "name",
    "TOPIC": "topic",
    "POSITION": "position",
    "LAG": "lag",
    "MEMBER": "member",
    "HANDLED": "handled",
    "SKIPPED": "skipped",
    "DEAD": "dead",
    "ERROR": lambda group: (group["error"] or {}).get("detail", ""),
}
LETTERS: Columns = {
    "ID": "id",
    "GROUP": "group",
    "TOPIC": "topic",
    "OFFSET": "offset",
    "STATE": "state",
    "ATTEMPTS": "attempts",
    "SINCE": when_of("created_at"),
    "ERROR": lambda letter: letter["error"].get("detail", ""),
    "EVENT": lambda letter: letter["event"][:200],
}


@click.group()
def events() -> None:
    """Publish and read events, watch and mend their consumers."""


@events.command()
@click.argument("topic")
@click.argument("file", type=click.File("rb"))
@json_option
def publish(topic: str, file: IO[bytes], as_json: bool) -> ExitCode:
    """Send FILE (- for stdin), plain or gzip, to TOPIC: one JSON object a line."""
    counts = {"accepted": 0, "duplicates": 0, "rejected": 0}
    errors: list[dict[str, Any]] = []
    with connect() as client:
        lines, before = unpacked(file), 0
        while batch := list(islice(lines, BATCH)):
            reply = client.publish_lines(topic, batch)
            for name in counts:
                counts[name] += reply[name]
            errors += [{**error, "line": error["line"] + before} for error in reply["errors"]]
            before += len(batch)
    if as_json:
        click.echo(json.dumps({**counts, "errors": errors}))
    else:
        click.echo(", ".join(f"{name} {count}" for name, count in counts.items()))
    for error in errors[:SHOWN]:
        click.echo(f"line {error['line']}: {safe(error['pointer'] + ' ' + error['detail']).strip()}", err=True)
    return ExitCode.PARTIAL if errors else ExitCode.OK


@events.command()
@click.argument("topic")
@click.option("--offset", type=click.IntRange(min=0), help="From this offset; from the log's begin without.")
@click.option("--limit", type=click.IntRange(min=1), default=100, show_default=True, help="At most so many.")
@click.option("--follow", is_flag=True, help="Go on with what is published, until Ctrl-C.")
@json_option
def read(topic: str, offset: int | None, limit: int, follow: bool, as_json: bool) -> None:
    """Print TOPIC's events, one a line: offset and event, or JSON with both and the time."""
    with connect() as client:
        while follow or limit > 0:
            page = client.events(topic, offset, 1000 if follow else min(limit, 5000), 20 if follow else None)
            for item in page["items"]:
                event = json.dumps(item["event"], ensure_ascii=True)
                click.echo(json.dumps(item) if as_json else f"{item['offset']}\t{event}")
            offset, limit = page["next_offset"], limit - len(page["items"])
            if not follow and offset >= page["end_offset"]:
                return


@events.command()
@json_option
def topics(as_json: bool) -> None:
    """List the topics with their offsets and the lag of their groups."""
    with connect() as client:
        print_rows(client.topics(), TOPICS, as_json=as_json, nothing="No topic.")


@events.group()
def groups() -> None:
    """Show how far the consumers are, set one back or on, forget one."""


@groups.command("list")
@json_option
def list_groups(as_json: bool) -> None:
    """List every group of every topic with its lag."""
    with connect() as client:
        found = [group for topic in client.topics() for group in topic["groups"]]
        print_rows(found, GROUPS, as_json=as_json, nothing="No group consumes yet.")


@groups.command()
@click.argument("group")
@click.argument("topic")
@click.argument("offset", type=click.IntRange(min=0))
@yes_options
def move(group: str, topic: str, offset: int, yes: bool, dry_run: bool) -> None:
    """Let GROUP go on in TOPIC from OFFSET: back to handle events again, or on past them."""
    if agreed(f"let group {group} go on in topic {topic} from offset {offset}", yes=yes, dry_run=dry_run):
        with connect() as client:
            found = client.set_position(group, topic, offset)
        click.echo(f"group {safe(found['name'])} is at {found['position']}, lag {found['lag']}")


@groups.command()
@click.argument("group")
@click.argument("topic")
@yes_options
def remove(group: str, topic: str, yes: bool, dry_run: bool) -> None:
    """Forget GROUP of TOPIC: it would begin anew."""
    if agreed(f"forget how far group {group} has handled topic {topic}", yes=yes, dry_run=dry_run):
        with connect() as client:
            client.remove_group(group, topic)


@events.group("dead-letters")
def dead_letters() -> None:
    """List what could not be handled; try it again or give it up."""


@dead_letters.command("list")
@click.option("--group", help="Only those of this group.")
@click.option("--topic", help="Only those of this topic.")
@click.option(
    "--state", type=click.Choice([state.value for state in DeadLetterState]), help="Only those in this state."
)
@click.option("--limit", type=click.IntRange(min=1), default=100, show_default=True, help="At most so many.")
@json_option
def list_letters(group: str | None, topic: str | None, state: str | None, limit: int, as_json: bool) -> None:
    """List dead letters, oldest first."""
    with connect() as client:
        found = islice(client.dead_letters(group=group, topic=topic, state=state), limit)
        print_rows(found, LETTERS, as_json=as_json, nothing="No dead letter: every event was handled.")


@dead_letters.command()
@click.argument("letter_id", type=int)
def retry(letter_id: int) -> None:
    """Let the group handle the event once more."""
    with connect() as client:
        click.echo(f"dead letter {letter_id} {client.change_dead_letter(letter_id, 'retry')['state']}")


@dead_letters.command()
@click.argument("letter_id", type=int)
@yes_options
def discard(letter_id: int, yes: bool, dry_run: bool) -> None:
    """Give the event up."""
    if agreed(f"give dead letter {letter_id} up", yes=yes, dry_run=dry_run):
        with connect() as client:
            click.echo(f"dead letter {letter_id} {client.change_dead_letter(letter_id, 'discard')['state']}")
