"""DuckDB and Spark as a batch operation meets them: files in, one expression, files out (step: batch)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from app.domain.batch import EngineName, Spark
from app.errors import TooLarge, Unavailable

if TYPE_CHECKING:
    from ibis.expr.types import Table

CHECK_S = 0.3
"""A running operation looks so often whether it is to stop."""
DUCKDB_MEMORY = "1GB"
"""Of one operation; what needs more is put on the disk."""
LOCAL_PARTITIONS = "8"
"""Of shuffles on this machine; on a cluster Spark's own number stands."""


class Engine(Protocol):
    """What runs expressions."""

    def read(self, files: Sequence[Path]) -> Table:
        """Parquet files as one table, their `ts` as microseconds since 1970 UTC."""

    def write(self, expression: Table, folder: Path) -> None:
        """Runs the expression; its rows become Parquet files in the folder, in their order by name."""

    def interrupt(self) -> None:
        """Ends what runs, from another thread."""


@contextmanager
def opened(name: EngineName, spark: Spark, folder: Path) -> Iterator[Engine]:
    """The engine, while the context is open. folder: for what does not fit into memory. Raises Unavailable."""
    with _duckdb(folder) if name is EngineName.DUCKDB else _spark(spark, folder) as engine:
        yield engine


def run(engine: Engine, expression: Table, folder: Path, check: Callable[[], None]) -> None:
    """Runs the expression as `Engine.write`. check: asked now and then; what it raises ends the work, and is raised."""
    with ThreadPoolExecutor(1, thread_name_prefix="engine") as thread:
        running: Future[None] = thread.submit(engine.write, expression, folder)
        try:
            while not wait([running], CHECK_S).done:
                check()
        except BaseException:
            engine.interrupt()
            raise
        running.result()


# -- DuckDB -----------------------------------------------------------------------------------------------------------


class DuckDB:
    """DuckDB in this process."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def read(self, files: Sequence[Path]) -> Table:
        """As Engine."""
        return _with_micros(self._connection.read_parquet([str(file) for file in files]), "epoch_us")

    def write(self, expression: Table, folder: Path) -> None:
        """As Engine. Raises TooLarge when memory or disk do not suffice."""
        import duckdb

        folder.mkdir()
        try:
            self._connection.to_parquet(expression, folder / "part-0.parquet")
        except (duckdb.OutOfMemoryException, duckdb.IOException) as error:
            raise TooLarge(f"DuckDB has not room enough for this: {str(error).splitlines()[0]}") from error

    def interrupt(self) -> None:
        """As Engine."""
        self._connection.con.interrupt()


@contextmanager
def _duckdb(folder: Path) -> Iterator[DuckDB]:
    import ibis

    limits = {"memory_limit": DUCKDB_MEMORY, "temp_directory": str(folder / "spilled")}
    connection = ibis.duckdb.connect(**limits)
    try:
        yield DuckDB(connection)
    finally:
        connection.disconnect()


# -- Spark ------------------------------------------------------------------------------------------------------------


class OnSpark:
    """A session of Spark."""

    def __init__(self, connection: Any, session: Any) -> None:
        self._connection, self._session = connection, session

    def read(self, files: Sequence[Path]) -> Table:
        """As Engine."""
        name = f"stream_{abs(hash(tuple(files)))}"
        self._session.read.parquet(*(file.as_uri() for file in files)).createOrReplaceTempView(name)
        return _with_micros(self._connection.table(name), "unix_micros")

    def write(self, expression: Table, folder: Path) -> None:
        """As Engine. Raises Unavailable when Spark gives up."""
        from py4j.protocol import Py4JError
        from pyspark.errors import PySparkException

        try:
            self._session.sql(self._connection.compile(expression)).write.parquet(folder.as_uri())
        except (Py4JError, PySparkException, OSError) as error:
            raise Unavailable(f"Spark gave up: {str(error).splitlines()[0][:300]}", reason="spark_failed") from error

    def interrupt(self) -> None:
        """As Engine."""
        self._session.sparkContext.cancelAllJobs()


@contextmanager
def _spark(found: Spark, folder: Path) -> Iterator[OnSpark]:
    import ibis
    from pyspark.errors import PySparkException
    from pyspark.sql import SparkSession

    builder = SparkSession.builder.master(found.master).appName("foretide")
    for name, value in _spark_settings(found, folder).items():
        builder = builder.config(name, value)
    try:
        session = builder.getOrCreate()
    except (PySparkException, OSError, RuntimeError) as error:
        raise Unavailable(f"Spark did not start: {str(error).splitlines()[0][:300]}", reason="spark_failed") from error
    try:
        session.sparkContext.setLogLevel("ERROR")
        yield OnSpark(ibis.pyspark.connect(session), session)
    finally:
        session.stop()
        _end_java()


def _spark_settings(found: Spark, folder: Path) -> dict[str, str]:
    own = {"spark.ui.enabled": "false", "spark.sql.session.timeZone": "UTC"}
    if not found.is_local:
        return own
    here = {"spark.driver.host": "127.0.0.1", "spark.driver.bindAddress": "127.0.0.1"}
    shuffled = {"spark.sql.shuffle.partitions": LOCAL_PARTITIONS, "spark.local.dir": str(folder / "spilled")}
    return own | here | shuffled


def _end_java() -> None:
    """Ends the Java process, which a stopped session leaves with its memory; the next session starts another."""
    from pyspark import SparkContext

    gateway, SparkContext._gateway, SparkContext._jvm = SparkContext._gateway, None, None
    if gateway is not None:
        gateway.shutdown()
        gateway.proc.stdin.close()  # it ends when this does
        gateway.proc.wait(30)


# -- Both -------------------------------------------------------------------------------------------------------------


def _with_micros(table: Table, function: str) -> Table:
    """The table with `ts` as microseconds, by the engine's own function of this name."""
    import ibis
    import ibis.expr.datatypes as dt

    def micros(ts: Any) -> Any: ...

    signature = ((dt.Timestamp("UTC"),), dt.int64)
    return table.mutate(ts=partial(ibis.udf.scalar.builtin, name=function, signature=signature)(micros)(table["ts"]))
