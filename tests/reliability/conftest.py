"""What the reliability tests share: the API over the real database, and a fleet of workers that may be killed."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from app import queue
from app.devstack.ports import Ports
from app.devstack.valkey import Valkey
from app.settings import get_settings
from tests.integration.conftest import make_api
from tests.reliability.fleet import Fleet

__all__ = ["make_api"]
WORKERS = 2


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Valkey]:
    """A Valkey of the module's own, which this process rings too."""
    valkey = Valkey(tmp_path_factory.mktemp("broker"), Ports().choose(), "password")
    valkey.start()
    valkey.await_ready()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FORETIDE_BROKER_URL", valkey.url)
        patch.setenv("FORETIDE_RATE_LIMIT", "100000 per minute")
        get_settings.cache_clear()
        queue.forget()
        yield valkey
    get_settings.cache_clear()
    queue.forget()
    valkey.child.kill()


@pytest.fixture(scope="module")
def fleet(_fresh: Callable[[], None], broker: Valkey, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Two workers of two processes each and a beat, at work on a database of the module's own."""
    made = Fleet(tmp_path_factory.mktemp("fleet"), broker)
    for number in range(WORKERS):
        made.start_worker(number)
    made.start_beat()
    made.await_work()
    yield made
    made.stop()
    _fresh()
