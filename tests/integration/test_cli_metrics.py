"""`foretide aggregate` against a serving API: what each verb prints, what it changes and how it ends."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from app.cli.root import cli
from app.errors import NotFound
from app.settings import Settings
from tests.integration.conftest import Api
from tests.served import Served


@pytest.fixture
def foretide(api: Api, configure: Callable[..., Settings]) -> Iterator[Callable[..., Result]]:
    """The command line with an operator's token."""
    served = Served("unused")
    configure(url=str(served.http.base_url), token=api.tokens["operator"])

    def run(*arguments: str, code: int = 0, **options: object) -> Result:
        done = CliRunner().invoke(cli, ["aggregate", *arguments], **options)
        assert done.exit_code == code, (arguments, done.output, done.exception)
        return done

    yield run
    served.end()


def test_samples_are_sent_and_shown(foretide: Callable[..., Result], tmp_path: Path):
    assert "foretide aggregate add" in foretide("list").stderr
    lines = [{"name": "latency", "value": n, "group": "ab"[n % 2], "item": f"i{n % 3}\u202e"} for n in range(6000)]
    file = tmp_path / "samples.ndjson.gz"
    file.write_bytes(gzip.compress("\n".join(map(json.dumps, lines)).encode()))
    assert foretide("add", str(file)).stdout == "accepted 6000, rejected 0\n"
    wrong = foretide("add", "-", "--json", input='{"name": "latency", "value": 5}\n{"name": "latency"}\n')
    assert json.loads(wrong.stdout)["errors"][0]["line"] == 2
    assert "line 2: /value" in wrong.stderr
    shown = foretide("show", "latency").stdout
    assert "count           6001" in shown
    told = json.loads(foretide("show", "latency", "--json").stdout)
    assert told["error_bound"]["p99"][0] <= 5939 <= told["error_bound"]["p99"][1]
    assert "total events    3000" in foretide("show", "latency", "--group", "b").stdout
    groups = foretide("show", "latency", "--groups").stdout.splitlines()
    assert [line.split("\t")[1:3] for line in groups[1:]] == [["a", "3000"], ["b", "3000"]]
    assert len(foretide("list").stdout.splitlines()) == 4
    top = foretide("top", "latency", "--by", "item", "--k", "1").stdout.splitlines()
    assert top == ["ITEM\tWEIGHT", "i2\\u202e\t6.001e+06"]
    assert json.loads(foretide("top", "latency", "--json").stdout)["items"][0]["group"] == "b"
    foretide("show", "latency", "--groups", "--group", "b", code=2)
    assert foretide("reset", "latency", "--dry-run").exit_code == 0
    foretide("reset", "latency", "--yes")
    assert isinstance(foretide("show", "latency", code=1).exception, NotFound)
