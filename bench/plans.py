"""A plan of a whole catalogue, voters, moves and explanations included, against limits of time and memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import psycopg2
from sqlalchemy import make_url

from app.settings import PROJECT_ROOT
from bench.result import Result, less
from bench.rig import Rig

OBJECTS = 100_000
LIMIT_S, LIMIT_MIB = 60.0, 350.0


def measure(rig: Rig) -> Iterator[Result]:
    """Seconds of the processor and largest memory of a process that plans all objects, in a database of its own."""
    url = make_url(rig.stack.database_url)
    rig.tell(f"plans: making {OBJECTS:,} objects with their accesses")
    connection = psycopg2.connect(url.set(drivername="postgresql").render_as_string(hide_password=False))
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute("drop database if exists bench_plans")
        cursor.execute("create database bench_plans")
    connection.close()
    own = url.set(database="bench_plans").render_as_string(hide_password=False)
    _run(own, "fill", str(OBJECTS))
    found: dict[str, Any] = json.loads(_run(own, "plan"))
    rig.tell(f"plans: {found}")
    yield less(f"plans of {OBJECTS:,} objects, processor", found["processor_s"], LIMIT_S, "s")
    yield less(f"plans of {OBJECTS:,} objects, memory", found["memory_mib"], LIMIT_MIB, "MiB")


def _run(url: str, *arguments: str) -> bytes:
    command = [sys.executable, "-m", "bench.plans_ours", *arguments]
    environment = os.environ | {"FORETIDE_DATABASE_URL": url}
    return subprocess.run(command, cwd=PROJECT_ROOT, env=environment, stdout=subprocess.PIPE, check=True).stdout
