"""What is done to a running system: processes killed and frozen, broker and database too, sites down, slow or lying."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable, Mapping
from contextlib import suppress

import psutil
from redis.exceptions import RedisError

from app import queue
from app.devstack.stack import Stack
from app.settings import get_settings
from tests.faults.proxy import Proxy
from tests.faults.rules import Fault, Rule
from tests.reliability.fleet import Fleet
from tests.soak.report import Report

LONG_S = 40.0
BURST = (
    Rule(Fault.LATENCY, p=0.2, value=0.3),
    Rule(Fault.RESET, p=0.02),
    Rule(Fault.TRUNCATED, p=0.02),
    Rule(Fault.THROTTLED, p=0.05),
    Rule(Fault.BROKEN, p=0.03),
    Rule(Fault.SLOW_DOWN, p=0.05, value=1),
    Rule(Fault.ERROR_IN_200, p=0.02),
    Rule(Fault.DROPPED, p=0.03),
    Rule(Fault.FLIPPED, p=0.005),
)


class Nemesis:
    """Acts by its seed; what lasts is undone by `keep_up`. To be used by the main thread, which starts processes."""

    def __init__(
        self, stack: Stack, fleet: Fleet, proxies: Mapping[str, Proxy], chance: random.Random, report: Report
    ) -> None:
        self._stack, self._fleet, self._proxies = stack, fleet, proxies
        self._chance, self._report = chance, report
        self._later: list[tuple[float, Callable[[], None]]] = []
        self._acts: list[Callable[[], None]] = [
            self.kill_child, self.kill_child, self.kill_worker, self.freeze_child, self.freeze_child, self.kill_beat,
            self.forget, self.kill_broker, self.kill_database, self.site_down, self.faults, self.faults,
        ]  # fmt: skip

    def act(self) -> None:
        """One of them, by chance."""
        act = self._chance.choice(self._acts)
        self._report.count(act.__name__)
        act()

    def keep_up(self) -> None:
        """Undoes what has lasted long enough, and starts again what has died."""
        now = time.monotonic()
        due = [undo for moment, undo in self._later if moment <= now]
        self._later = [(moment, undo) for moment, undo in self._later if moment > now]
        for undo in due:
            undo()
        for number, worker in list(self._fleet.workers.items()):
            if not worker.alive:
                self._fleet.start_worker(number)
        for number, beat in list(self._fleet.beats.items()):
            if not beat.alive:
                self._fleet.start_beat(number)
        for proxy in self._proxies.values():
            proxy.log.clear()

    def relent(self) -> None:
        """Undoes all."""
        for _, undo in self._later:
            undo()
        self._later.clear()
        for proxy in self._proxies.values():
            proxy.harm()
        self.keep_up()

    def _undo(self, after_s: float, undo: Callable[[], None]) -> None:
        self._later.append((time.monotonic() + after_s, undo))

    # -- processes ----------------------------------------------------------------------------------------------------

    def _child(self) -> psutil.Process | None:
        children = self._fleet.children()
        return self._chance.choice(children) if children else None

    def kill_child(self) -> None:
        if child := self._child():
            with suppress(psutil.NoSuchProcess):
                child.kill()

    def kill_worker(self) -> None:
        self._chance.choice(list(self._fleet.workers.values())).kill()

    def kill_beat(self) -> None:
        self._chance.choice(list(self._fleet.beats.values())).kill()

    def freeze_child(self) -> None:
        if child := self._child():
            self._signal(child.pid, signal.SIGSTOP)
            self._undo(
                self._chance.uniform(0.5, 3) * get_settings().lease_s, lambda: self._signal(child.pid, signal.SIGCONT)
            )

    def _signal(self, pid: int, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            os.kill(pid, number)

    # -- broker and database ------------------------------------------------------------------------------------------

    def forget(self) -> None:
        with suppress(RedisError):
            queue.broker().flushall()

    def kill_broker(self) -> None:
        self._restart("broker", after_s=self._chance.uniform(0, 10))

    def kill_database(self) -> None:
        self._restart("database", after_s=0)

    def _restart(self, name: str, after_s: float) -> None:
        part = self._stack.part(name)
        if part.child is None or not part.child.alive:
            return
        part.child.kill()

        def start() -> None:
            part.start()
            part.await_ready()

        self._undo(after_s, start)

    # -- sites --------------------------------------------------------------------------------------------------------

    def _proxy(self) -> Proxy:
        return self._chance.choice(list(self._proxies.values()))

    def site_down(self) -> None:
        self._harm(self._proxy(), Rule(self._chance.choice([Fault.RESET, Fault.HALF_OPEN])))

    def faults(self) -> None:
        self._harm(self._proxy(), *self._chance.sample(BURST, 3))

    def _harm(self, proxy: Proxy, *rules: Rule) -> None:
        proxy.harm(*rules)
        self._undo(self._chance.uniform(5, LONG_S), proxy.harm)
