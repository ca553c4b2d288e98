"""`foretide doctor`: looks at this machine and at the running stack, and says what is wrong and how to mend it."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import click

from app.errors import ExitCode, ForetideError

FREE_BYTES = 2 * 2**30
WORKER_MEND = "start one with: ./foretide worker (./foretide up starts one by itself)"


@dataclass(frozen=True)
class Finding:
    """One look at one thing; `mend` is what to do when it is not well."""

    name: str
    ok: bool
    detail: str
    mend: str = ""


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def doctor(as_json: bool) -> int:
    """Say what is wrong and how to mend it; exits with 1 when anything is."""
    findings = list(examine())
    if as_json:
        click.echo(json.dumps([asdict(finding) for finding in findings], indent=2))
    else:
        for finding in findings:
            show(finding)
    return ExitCode.OK if all(finding.ok for finding in findings) else ExitCode.FAILED


def show(finding: Finding) -> None:
    """A finding's line, and below it what to do."""
    mark = click.style("ok   ", fg="green") if finding.ok else click.style("WRONG", fg="red")
    click.echo(f"{mark} {finding.name:14} {finding.detail}")
    if not finding.ok:
        click.echo(f"{'':20} mend: {finding.mend}")


def examine() -> Iterator[Finding]:
    """Look at everything: the machine first, then the stack that the settings or the note in the state folder name."""
    from app.devstack import state
    from app.settings import adopt, get_settings

    yield from machine()
    note = state.read_note(get_settings().state_dir)
    if note and not get_settings().database_url:
        adopt(note["environment"])
    settings = get_settings()
    if not settings.database_url:
        yield Finding("stack", True, "none is running here; start one with ./foretide up or ./foretide demo")
        return
    looks = [guarded("database", "check FORETIDE_DATABASE_URL and that Postgres runs", database)]
    if looks[-1].ok:
        looks.append(guarded("schema", "./foretide db upgrade", schema))
    if looks[-1].ok:  # tables can be asked only where they are
        looks.append(guarded("workers", WORKER_MEND, workers))
        looks.append(guarded("sites", "see ./foretide sites list, then ./foretide sites probe NAME", sites))
    yield from looks
    yield guarded("broker", "check FORETIDE_BROKER_URL and that Valkey runs", broker)
    if url := settings.url or (note or {}).get("url"):
        yield guarded("api", "start it with: ./foretide serve (./foretide up starts one by itself)", lambda: api(url))


def machine() -> Iterator[Finding]:
    """Look at Python, the virtual environment, the disk, the state folder and the ports."""
    from app.devstack import state
    from app.devstack.ports import is_free
    from app.settings import PROJECT_ROOT, get_settings

    version = ".".join(str(part) for part in sys.version_info[:3])
    yield Finding("python", sys.version_info >= (3, 11), version, "install Python 3.11 or newer")
    in_venv = Path(sys.prefix) == PROJECT_ROOT / ".venv"
    yield Finding(".venv", in_venv, sys.prefix, "run commands by ./foretide, which makes it")
    free = shutil.disk_usage(PROJECT_ROOT).free
    yield Finding("disk", free > FREE_BYTES, f"{free / 2**30:.1f} GiB free", "free at least 2 GiB")
    yield guarded("state folder", "set FORETIDE_STATE_DIR", lambda: str(state.prepare(get_settings().state_dir)))
    settings = get_settings()
    for name, port in (("api port", settings.port), ("flower port", settings.flower_port)):
        detail = f"{port} is free" if is_free(port) else f"{port} is in use; demo and up choose another"
        yield Finding(name, True, detail)


def guarded(name: str, mend: str, look: Callable[[], str]) -> Finding:
    """What a look finds; an error of ours is what is wrong."""
    try:
        return Finding(name, True, look())
    except ForetideError as error:
        return Finding(name, False, error.detail, mend)


def database() -> str:
    """Query it. Raises DatabaseUnavailable."""
    from app.db.session import check

    check()
    return "answers"


def schema() -> str:
    """Compare revisions. Raises Conflict."""
    from app.db import schema as revisions
    from app.db.session import session_scope
    from app.errors import Conflict

    with session_scope() as session:
        current, head = revisions.current(session), revisions.head()
    if current != head:
        raise Conflict(f"the database stands at {current or 'no revision'}, the program needs {head}")
    return f"at {head}, the newest"


def broker() -> str:
    """Count the messages in it. Raises BrokerUnavailable, or SettingsError for a URL that is none."""
    from app.errors import SettingsError
    from app.queue import QueueName, lengths

    try:
        return f"answers; {sum(lengths(QueueName).values())} messages wait"
    except ValueError as error:
        raise SettingsError(str(error)) from None


def workers() -> str:
    """Look for signs of life on every queue. Raises Unavailable."""
    from app.db import sweep
    from app.db.session import session_scope
    from app.errors import Unavailable
    from app.settings import get_settings

    with session_scope() as session:
        late = sweep.late_queues(session, get_settings().tick_late_s)
    if late:
        raise Unavailable(f"no sign of life on {', '.join(late)}")
    return "consume every queue"


def sites() -> str:
    """Look at the sites' states. Raises Unavailable."""
    from app.db import sites as rows
    from app.db.session import session_scope
    from app.domain.states import SiteState
    from app.errors import Unavailable

    with session_scope() as session:
        found = {site.name: (SiteState(site.state), site.reason) for site in rows.listing(session)}
    ill = [
        f"{name} is {state}: {reason}"
        for name, (state, reason) in found.items()
        if state in (SiteState.UNREACHABLE, SiteState.REFUSED)
    ]
    if ill:
        raise Unavailable("; ".join(ill))
    return f"{len(found)} registered" + "".join(f", {name} {state}" for name, (state, _) in found.items())


def api(url: str) -> str:
    """Ask whether it is ready. Raises Unavailable."""
    import httpx

    from app.errors import Unavailable

    try:
        reply = httpx.get(f"{url}/readyz", timeout=5)
    except httpx.HTTPError as error:
        raise Unavailable(f"{url} does not answer: {error}") from None
    if reply.status_code != httpx.codes.OK:
        raise Unavailable(f"{url} is not ready: {reply.text}")
    return f"{url} is {reply.json()['status']}"
