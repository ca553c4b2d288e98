"""`foretide batch` and `foretide exports` against a serving API: what each verb prints and how it ends."""

from __future__ import annotations

import gzip
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from sqlalchemy import select

from app.cli.root import cli
from app.db.session import session_scope
from app.db.tables import Job
from app.errors import Conflict, Invalid
from app.settings import Settings
from tests.integration.conftest import Api
from tests.served import Served
from workers.batch import run_batch


@pytest.fixture
def foretide(api: Api, configure: Callable[..., Settings]) -> Iterator[Callable[..., Result]]:
    """The command line with an operator's token, and a thread that does a worker's part."""
    served = Served("unused")
    configure(url=str(served.http.base_url), token=api.tokens["operator"])
    stop = threading.Event()

    def work() -> None:
        while not stop.wait(0.1):
            with session_scope() as session:
                queued = session.scalars(select(Job.id).where(Job.kind == "batch", Job.state == "queued")).all()
            for number in queued:
                run_batch(number)

    def run(*arguments: str, code: int = 0, raises: type[Exception] | None = None) -> Result:
        done = CliRunner().invoke(cli, list(arguments), standalone_mode=False)
        if raises:
            assert isinstance(done.exception, raises), (arguments, done.output, done.exception)
        else:
            assert done.exception is None, (arguments, done.output, done.exception)
            assert (done.return_value or 0) == code, done.output
        return done

    worker = threading.Thread(target=work)
    worker.start()
    yield run
    stop.set()
    worker.join()
    served.end()


def test_operations_over_files(foretide: Callable[..., Result], tmp_path: Path):
    told = json.loads(foretide("batch", "engine", "--json").stdout)
    assert told["engine"] == "duckdb"
    assert "FORETIDE_SPARK_MASTER is not set" in foretide("batch", "engine").stdout
    events, others, out = tmp_path / "events.ndjson.gz", tmp_path / "others.ndjson", tmp_path / "out.ndjson"
    lines = [{"ts": n * 3600, "value": n, "user": n % 2} for n in range(4)]
    events.write_bytes(gzip.compress("\n\n".join(map(json.dumps, lines)).encode()))
    done = foretide("batch", "run", "time_window_metrics", "--file", str(events), "--window-minutes", "120")
    assert [json.loads(line)["sum"] for line in done.stdout.splitlines()] == [1, 5]
    assert "2 lines by duckdb" in done.stderr
    others.write_text('{"user": 1, "name": "é"}\n{"user": []}\n')
    join = ("batch", "run", "join_streams", "--file", str(events), "--with", str(others), "--key", "user")
    done = foretide(*join, "--output", str(out), "--json", code=7)
    assert json.loads(done.stdout)["left_out"] == 1
    assert "/events/5/user" in done.stderr
    assert [json.loads(line)["right"]["name"] for line in out.read_text().splitlines()] == ["é", "é"]
    foretide("batch", "run", "process_events", "--file", str(events), "--threshold", "1", raises=Invalid)
    foretide("batch", "run", "process_events", "--file", str(events), "--engine", "spark", raises=Conflict)
    span = ("--since", "2026-01-01T00:00:00Z", "--until", "2026-01-02T00:00:00Z")
    assert foretide("batch", "run", "process_events", *span, "--group-by", "op,region").stdout == ""
    assert foretide("batch", "run", "process_events", "--topic", "user", *span).stdout == ""
    assert "FORETIDE_EXPORT_SITE" in foretide("exports", "list").stderr
    foretide("exports", "run", raises=Conflict)
