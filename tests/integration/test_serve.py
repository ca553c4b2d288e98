"""The serving process is lean: it loads no learning library, and describes itself without docstrings as with them."""

from __future__ import annotations

import json
import subprocess
import sys

from app.settings import PROJECT_ROOT

HEAVY = {"sklearn", "scipy", "numba", "pulp", "boto3", "botocore", "skops", "duckdb", "pandas", "celery"}


def run(*arguments: str) -> str:
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=PROJECT_ROOT, capture_output=True, text=True, check=True).stdout


def test_the_application_loads_no_learning_library():
    code = "import json, sys, app.server; print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
    loaded = set(json.loads(run("-c", code)))
    assert not loaded & HEAVY


def test_the_document_is_the_same_without_docstrings():
    arguments = ("-m", "app", "config", "openapi", "--json")
    assert run(*arguments) == run("-OO", *arguments)
