"""The embedded stack of a bench run: started when a benchmark first asks for it, gone when the run ends."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from types import TracebackType
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from app.client import Client
    from app.devstack.services import Endpoints
    from app.devstack.stack import Stack


class Rig:
    """Gives benchmarks a stack, an API with a worker, and a client; each is started once."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        """tell: called with lines of progress."""
        self.tell = tell
        self._open = ExitStack()
        self._stack: Stack | None = None
        self._endpoints: Endpoints | None = None

    def __enter__(self) -> Self:
        """Nothing runs yet."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Stops what was started."""
        self._open.close()

    @property
    def stack(self) -> Stack:
        """Postgres, Valkey and three sites; this process' settings are theirs."""
        if self._stack is None:
            from app.devstack import state
            from app.devstack.stack import Stack
            from app.settings import get_settings

            self.tell("starting an embedded stack")
            folder = state.StateFolder.fresh(state.prepare(get_settings().state_dir))
            self._stack = self._open.enter_context(Stack(folder))
            self._stack.adopt(FORETIDE_RATE_LIMIT="1000000 per second", FORETIDE_PORT="0", FORETIDE_FLOWER_PORT="0")
        return self._stack

    @property
    def endpoints(self) -> Endpoints:
        """The API, a worker, beat and Flower; the three sites are registered."""
        if self._endpoints is None:
            from app.devstack.sites import register

            stack = self.stack
            self.tell("starting the API and a worker")
            self._endpoints = stack.serve()
            register(self._endpoints, stack.sites)
            stack.await_services()  # or their start would be measured too
        return self._endpoints

    def client(self) -> Client:
        """The SDK on that API; the caller closes it."""
        from app.client import Client

        return Client(self.endpoints.url, self.endpoints.token)
