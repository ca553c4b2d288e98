"""The house rules of docs/development.md that a machine can check."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from app.domain.tasks import SCHEDULES, TASKS, QueueName, TaskName
from app.settings import Settings
from workers.celery import app as celery_app
from workers.celery import load_tasks

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("app", "workers", "ml")
MODULES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py") if path.stat().st_size)
ALL_PYTHON = [*MODULES, *sorted((ROOT / "bench").rglob("*.py")), *sorted((ROOT / "tests").rglob("*.py"))]
MOST_LINES = 400

MAY_READ_ENVIRONMENT = {
    "app/settings.py",
    "workers/celery.py",  # sets the libraries' thread counts before numpy is loaded
    "app/cli/serve.py",  # starts itself again under variables that are the interpreter's own
}
MAY_IMPORT_BOTO3 = "app/s3/"
MAY_WRITE_SQL = "app/db/"
HEAVY = {"boto3", "botocore", "duckdb", "highspy", "numba", "pandas", "pulp", "scipy", "skops", "sklearn"}


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


@cache
def nodes(path: Path) -> tuple[ast.AST, ...]:
    return tuple(ast.walk(tree(path)))


def imported(path: Path) -> Iterator[tuple[str, str]]:
    """Each imported (module, name); the name is empty for `import module`."""
    for node in nodes(path):
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ((node.module or "", alias.name) for alias in node.names)


def catches_all(node: ast.AST) -> bool:
    if not isinstance(node, ast.ExceptHandler):
        return False
    return node.type is None or bool(re.search(r"\bException\b", ast.unparse(node.type)))


def reads_environment(node: ast.AST) -> bool:
    if not (isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "os"):
        return False
    return node.attr in {"environ", "environb", "getenv", "getenvb"}


def commits(node: ast.AST) -> bool:
    return isinstance(node, ast.Attribute) and node.attr in {"commit", "rollback"}


def test_modules_are_short_and_say_what_they_are_for():
    assert len(MODULES) > 200
    assert not [name_of(path) for path in MODULES if len(path.read_text().splitlines()) > MOST_LINES]
    mute = [name_of(path) for path in MODULES if not ast.get_docstring(tree(path))]
    assert not mute, "a module opens with one to three lines: what it decides or moves"


@pytest.mark.parametrize(
    ("offends", "allowed"),
    [
        (catches_all, {"workers/base.py", "app/api/errors.py"}),
        (reads_environment, MAY_READ_ENVIRONMENT),
        (commits, {"app/db/session.py"}),
    ],
)
def test_what_few_modules_may_do_is_done_by_no_other(offends, allowed):
    found = {
        name_of(path): [f"line {node.lineno}" for node in nodes(path) if offends(node)]
        for path in MODULES
        if any(map(offends, nodes(path)))
    }
    assert found.keys() <= allowed, found


def test_sql_stands_in_app_db_alone():
    for path in MODULES:
        if not name_of(path).startswith(MAY_WRITE_SQL):
            found = {f"{of}.{name}" for of, name in imported(path) if of.split(".")[0] in ("sqlalchemy", "psycopg2")}
            assert found <= {"sqlalchemy.orm.Session"}, f"{name_of(path)}: it hands a session on, and nothing more"


def test_boto3_stands_in_app_s3_alone():
    for path in MODULES:
        if not name_of(path).startswith(MAY_IMPORT_BOTO3):
            assert not {of.split(".")[0] for of, _ in imported(path)} & {"boto3", "botocore"}, name_of(path)


def test_pure_packages_read_no_clock_and_draw_no_chance():
    forbidden = {"datetime.now", "datetime.utcnow", "datetime.today", "time.time", "random.random", "np.random.seed"}
    for path in [*(ROOT / "ml").rglob("*.py"), *(ROOT / "app/domain").rglob("*.py")]:
        called = {ast.unparse(node.func) for node in nodes(path) if isinstance(node, ast.Call)}
        assert not called & forbidden, name_of(path)
        assert not {"random", "secrets", "socket", "requests"} & {module for module, _ in imported(path)}, name_of(path)


def test_packages_hand_nothing_on_and_no_module_is_a_drawer():
    drawers = {"utils", "util", "helpers", "helper", "managers", "manager", "common", "misc"}
    assert not [name_of(path) for path in ALL_PYTHON if path.stem in drawers]
    for path in ALL_PYTHON:
        if path.name == "__init__.py":
            body = tree(path).body
            said = [node for node in body if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)]
            assert body == said, name_of(path)


def test_import_contracts_are_kept():
    command = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    done = subprocess.run([sys.executable, "-c", command], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_the_api_process_loads_nothing_heavy():
    code = "import sys; from app.server import create_app; create_app(); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = {name.split(".")[0] for name in done.stdout.split()}
    assert not loaded & (HEAVY | {"celery"}), "celery is loaded by the first ring"
    assert not {name for name in done.stdout.split() if name.startswith("ml.")} - {"ml.serving"}


def test_the_workers_parent_loads_no_learning_library():
    code = "import sys; from workers.celery import load_tasks; load_tasks(); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert not {name.split(".")[0] for name in done.stdout.split()} & {"sklearn", "scipy", "numba", "skops", "duckdb"}


def test_each_kind_of_job_is_declared_registered_and_consumed():
    load_tasks()
    assert set(TASKS) == set(TaskName)
    assert set(TaskName) <= set(celery_app.tasks)
    assert {spec.queue for spec in TASKS.values()} <= set(celery_app.amqp.queues.consume_from)
    assert set(celery_app.amqp.queues.consume_from) == set(QueueName)


def test_each_schedule_submits_a_known_kind_at_an_interval_of_the_settings():
    for name, schedule in SCHEDULES.items():
        assert schedule.kind in TASKS, name
        assert Settings.model_fields[schedule.every].annotation is float, name
