"""`foretide worker|beat|flower`: become the Celery process of that name; `worker --check` is a worker's own probe."""

from __future__ import annotations

import os
import secrets
import sys
from pathlib import Path
from typing import NoReturn

import click

from app.errors import Unavailable

PASS_ON = {"ignore_unknown_options": True}


def become(verb: str, *arguments: str) -> NoReturn:
    """Replaces this process by `celery -A workers VERB …`; python -m, since a shebang breaks in a path with a space."""
    os.execv(sys.executable, [sys.executable, "-m", "celery", "-A", "workers", verb, *arguments])  # noqa: S606 - no shell is wanted


@click.command(context_settings=PASS_ON)
@click.option("--check", is_flag=True, help="Only ask whether workers consume every queue; exit code 5 when not.")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="[CELERY OPTIONS]")
def worker(check: bool, arguments: tuple[str, ...]) -> None:
    """Run a Celery worker; options such as --queues and --concurrency go to Celery."""
    if not check:
        become("worker", *arguments)
    from app.db import sweep
    from app.db.session import session_scope
    from app.settings import get_settings

    with session_scope() as session:
        late = sweep.late_queues(session, get_settings().tick_late_s)
    if late:
        raise Unavailable(f"no sign of life from the workers of {', '.join(late)}")
    click.echo("workers consume every queue")


@click.command(context_settings=PASS_ON)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="[CELERY OPTIONS]")
def beat(arguments: tuple[str, ...]) -> None:
    """Run Celery beat, which rings the periodic passes; several do no harm."""
    become("beat", *arguments)


@click.command(context_settings=PASS_ON)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="[FLOWER OPTIONS]")
def flower(arguments: tuple[str, ...]) -> None:
    """Run Flower, read-only and on loopback, behind a password."""
    from app.settings import get_settings

    settings = get_settings()
    password = settings.flower_password or secrets.token_urlsafe(12)
    if not settings.flower_password:
        click.echo(f"Flower's user is {settings.flower_user}, its password {password}", err=True)
    conf = _private_file(settings.state_dir, f"basic_auth = [{f'{settings.flower_user}:{password}'!r}]\n")
    own = (
        f"--conf={conf}",
        "--address=127.0.0.1",
        f"--port={settings.flower_port}",
        "--read_only",
        "--max_tasks=10000",
    )
    become("flower", *own, *arguments)


def _private_file(folder: Path, text: str) -> Path:
    """A file that only we may read: on the command line every user of the machine could see the password."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "flowerconfig.py"
    path.unlink(missing_ok=True)
    path.touch(mode=0o600)
    path.write_text(text)
    return path
