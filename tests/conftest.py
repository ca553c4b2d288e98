"""The real Postgres, Valkey and S3 sites that tests run on: started once a pytest process, when a test first asks.

Ports, passwords and so every URL are chosen now, before any module of the project reads its settings. Where several
processes run the tests (pytest -n 2), each has a stack of its own.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import pytest
from sqlalchemy.orm import Session

from app.db import session as database_session
from app.devstack.seaweed import RunningSite
from app.devstack.stack import Stack
from app.devstack.state import StateFolder, prepare
from app.settings import Settings, get_settings
from tests import figures
from tests.figures import Figures, Rounds
from tests.needs import lacking
from tests.pristine import Pristine
from tests.s3servers import Servers

# Short leases, so that what follows from a lapsed one can be awaited.
FAST = {"FORETIDE_LEASE_S": "3", "FORETIDE_LEASE_RENEW_S": "1", "FORETIDE_SOFT_SHUTDOWN_S": "5"}
# Learning libraries use one thread, as they do in a worker's processes: more would fight for the cores.
FAST |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}

ENVIRONMENT = dict(os.environ)
STACK = Stack(StateFolder.fresh(prepare(get_settings().state_dir)))
DATABASE = Pristine(STACK.database_url, f"test_{os.getpid()}", f"template_{os.getpid()}")
STACK.adopt(**FAST, FORETIDE_DATABASE_URL=DATABASE.url)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--full", action="store_true", help="as many repetitions as docs/guarantees.md promises")
    parser.addoption("--budget", type=float, default=5.0, help="seconds that a repeated check may take without --full")
    parser.addoption("--seed", type=int, help="where random checks start from; they print it")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "needs(name): runs only where this thing of tests/needs.py is")
    config.stash[figures.LINES] = []
    if config.getoption("numprocesses", None):  # other processes run the tests and must not take this stack for theirs
        STACK.stop()
        os.environ.clear()
        os.environ.update(ENVIRONMENT)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        for mark in item.iter_markers("needs"):
            if reason := lacking(mark.args[0], item.path.parent.name):
                item.add_marker(pytest.mark.skip(reason))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    figures.show(terminalreporter, config.stash[figures.LINES])


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish() -> None:
    STACK.stop()  # before pytest-xdist hears that this process has finished: it then waits for seconds only


def pytest_unconfigure() -> None:
    STACK.stop()  # however the session ended


@pytest.fixture(scope="session")
def stack() -> Stack:
    """Postgres, Valkey and three sites, running."""
    return STACK.__enter__()  # pytest_unconfigure stops it, started or not


@pytest.fixture(scope="session")
def sites(stack: Stack) -> dict[str, RunningSite]:
    """The running sites by name: endpoint, bucket and credentials of each."""
    return {site.name: site for site in stack.sites}


@pytest.fixture(scope="session")
def site_of(
    sites: dict[str, RunningSite], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str], RunningSite]]:
    """A running site by the name of its S3 server, one of tests.s3servers.ALL, started when first asked for."""
    servers = Servers(tmp_path_factory.mktemp("servers"), sites["aws-eu"])
    yield servers.site_of
    servers.stop()


@pytest.fixture(scope="session")
def _fresh(stack: Stack) -> Iterator[Callable[[], None]]:
    """Makes the database as good as new."""
    DATABASE.start()

    def restore() -> None:
        database_session.engine().dispose()
        DATABASE.restore()

    yield restore
    database_session.engine().dispose()
    DATABASE.drop()


@pytest.fixture(scope="session")
def database_url(_fresh: Callable[[], None]) -> str:
    """The URL of this process's migrated database, which FORETIDE_DATABASE_URL names too."""
    return DATABASE.url


@pytest.fixture
def session(database_url: str) -> Iterator[Session]:
    """A session whose every change is rolled back after the test; `begin_nested` and `commit` stay inside."""
    with database_session.engine().connect() as connection:
        outer = connection.begin()
        with Session(connection, expire_on_commit=False, join_transaction_mode="create_savepoint") as inner:
            yield inner
        outer.rollback()


@pytest.fixture
def clean_database(_fresh: Callable[[], None]) -> Iterator[str]:
    """The URL of an empty, migrated database, for tests that commit; it is as good as new after the test."""
    yield DATABASE.url
    _fresh()


@pytest.fixture
def configure(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Settings]]:
    """Sets settings for one test by name: configure(lease_s=1) sets FORETIDE_LEASE_S and returns the new settings."""

    def apply(**values: object) -> Settings:
        for name, value in values.items():
            monkeypatch.setenv(f"FORETIDE_{name.upper()}", str(value))
        get_settings.cache_clear()
        return get_settings()

    yield apply
    monkeypatch.undo()
    get_settings.cache_clear()


@pytest.fixture(scope="session")
def full(request: pytest.FixtureRequest) -> bool:
    """Whether repeated checks run as often as docs/guarantees.md promises."""
    return bool(request.config.getoption("--full"))


@pytest.fixture(scope="session")
def budget_s(request: pytest.FixtureRequest) -> float:
    """Seconds that a repeated check may take otherwise: it prints how often it has run."""
    return float(request.config.getoption("--budget"))


@pytest.fixture(scope="session")
def rounds(full: bool, budget_s: float) -> Rounds:
    """Counts the rounds of a repeated check: as many as were promised, or as fit into the budget."""
    return Rounds(full, budget_s)


@pytest.fixture
def figure(request: pytest.FixtureRequest) -> Figures:
    """Tells what a repeated check has shown: figure("I14", "never overspent", n)."""
    return Figures(request.config.stash[figures.LINES])


@pytest.fixture(scope="session")
def seed(request: pytest.FixtureRequest) -> int | None:
    """Where random checks start from, if the command line says."""
    chosen: int | None = request.config.getoption("--seed")
    return chosen
