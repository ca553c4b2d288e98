"""Metrics are counted once by several processes that are killed at any moment, while their parts are merged."""

from __future__ import annotations

import os
import signal
import time

import numpy as np
import pytest

from app import clock
from app.db import metric_parts, metric_windows, metrics
from app.db import session as database
from app.db.session import session_scope
from app.domain.metric_windows import Found, Window
from app.domain.metrics import Samples

WRITERS, SIZE = 2, 200


def block(writer: int, number: int) -> np.ndarray:
    """What a writer sends as its block of this number."""
    return np.random.default_rng([writer, number]).normal(1e9, 1, SIZE)


class Writer:
    """A process that adds one block after the other and tells each that is committed."""

    def __init__(self, name: int) -> None:
        self.name = name
        read, write = os.pipe()
        self._pid = os.fork()
        if not self._pid:
            os.close(read)
            database.dispose()
            try:
                self._add(write)
            finally:
                os._exit(1)
        os.close(write)
        self._told = read

    def _add(self, told: int) -> None:
        for number in range(10**6):
            now = clock.now()
            ts = [metric_parts.microseconds(now) - n * 1_000_000 // 4 for n in range(SIZE)]  # over six buckets
            with session_scope() as session:
                samples = Samples(["m"] * SIZE, block(self.name, number).tolist(), ts, [f"w{self.name}"] * SIZE)
                metric_parts.add(session, samples, now=now)
            os.write(told, b".")

    def wait(self, blocks: int) -> int:
        """Reads until so many are told."""
        return len(b"".join(os.read(self._told, 1) for _ in range(blocks)))

    def kill(self) -> int:
        """The process ends here; how many more blocks it had told of."""
        os.kill(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)
        with os.fdopen(self._told, "rb") as rest:
            return len(rest.read())


def counted(writer: int) -> Found:
    with session_scope() as session:
        (stream,) = [stream for stream in metrics.streams_of(session, "m") if stream.label == f"w{writer}"]
        window = Window.ending(metric_parts.microseconds(clock.now()), 600)
        return metric_windows.read_spread(session, [stream.id], [0], window)


def test_killed_writers_are_counted_in_full_and_once(clean_database, rounds, figure):
    """A block whose commit was told is there; the one under way is there in full or not at all."""
    database.engine().dispose()
    done = 0
    for number in rounds(100):
        names = [number * WRITERS + each for each in range(WRITERS)]
        writers = [Writer(name) for name in names]
        told = [writer.wait(3) for writer in writers]
        for _ in range(3):
            with session_scope() as session:
                metric_parts.merge(session, metrics.bucket_of(clock.now()))
        time.sleep(np.random.default_rng(number).uniform(0, 0.02))
        told = [before + writer.kill() for before, writer in zip(told, writers, strict=True)]
        with session_scope() as session:
            while metric_parts.merge(session, metrics.bucket_of(clock.now())):
                pass
        for name, blocks in zip(names, told, strict=True):
            found = counted(name)
            whole, part = divmod(int(found.moments.count[0]), SIZE)
            assert part == 0
            assert blocks <= whole <= blocks + 1
            values = np.concatenate([block(name, n) for n in range(whole)])
            assert (found.moments.low[0], found.moments.high[0]) == (values.min(), values.max())
            assert found.moments.variance[0] == pytest.approx(values.var(), rel=1e-8)
            (median,) = found.spreads[0].quantiles([0.5])
            assert median.low <= np.quantile(values, 0.5, method="inverted_cdf") <= median.high
        done += 1
    figure("metrics", f"{WRITERS} writers killed at any moment while parts were merged", done)
