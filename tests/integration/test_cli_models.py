"""`foretide models` against a serving API: what each verb prints, what it changes and how it ends."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import onnxruntime
import pytest
from click.testing import CliRunner, Result
from sqlalchemy import select

from app.cli.root import cli
from app.db.session import session_scope
from app.db.tables import Job
from app.errors import Conflict, Invalid, NotFound, PreconditionFailed
from app.settings import Settings
from tests.integration.conftest import Api
from tests.learning import by_feature, fill, perform, states, version
from tests.served import Served
from workers.accesses import roll_up
from workers.drift import watch
from workers.models import train as train_task
from workers.prediction_batches import predict_batch

REASON = ("--reason", "it was better in the pilot")


@pytest.fixture
def foretide(api: Api, configure: Callable[..., Settings]) -> Iterator[Callable[..., Result]]:
    """The command line with an operator's token; what it exits with is checked by `code`."""
    served = Served("unused")
    configure(url=str(served.http.base_url), token=api.tokens["operator"])

    def run(*arguments: str, raises: type[Exception] | None = None) -> Result:
        done = CliRunner().invoke(cli, list(arguments))
        if raises is None:
            assert done.exit_code == 0, (arguments, done.output, done.exception)
        else:
            assert isinstance(done.exception, raises), (arguments, done.output, done.exception)
        return done

    yield run
    served.end()


def rows(done: Result) -> list[dict[str, str]]:
    """A listing's lines by title."""
    titles, *lines = [line.split("\t") for line in done.stdout.splitlines()]
    return [dict(zip(titles, line, strict=True)) for line in lines]


def test_versions_are_listed_shown_and_moved_through_their_life(foretide: Callable[..., Result]):
    nothing = foretide("models", "list")
    assert "foretide models train" in nothing.stderr
    foretide("models", "versions", "tier", raises=NotFound)
    measured = {
        "permutation": {"decayed_7d": {"auc_lost": 0.2, "log_loss_added": 0.1}},
        "built_in": {"decayed_7d": 1.0},
    }
    version(serve="nothing served before it", importances=measured)
    version(by_feature("access_7d"), algorithm="recency")
    listed = rows(foretide("models", "list"))
    assert [(row["NAME"], row["VERSION"], row["STATE"], row["AUC"]) for row in listed] == [
        ("tier", "1", "champion", "0.900")
    ]
    told = rows(foretide("models", "versions"))
    assert [(row["VERSION"], row["STATE"], row["ALGORITHM"]) for row in told] == [
        ("2", "candidate", "recency (a baseline)"),
        ("1", "champion", "by_feature"),
    ]
    assert [row["BASELINES"] for row in rows(foretide("models", "evaluations"))] == ["recency 0.800"] * 2
    (row,) = rows(foretide("models", "importances"))
    assert (row["FEATURE"], row["AUC LOST"], row["LOG LOSS ADDED"], row["ITS OWN SHARE"]) == (
        "decayed_7d",
        "0.2",
        "0.1",
        "1",
    )
    assert "Nothing was measured for version 2" in foretide("models", "importances", "--version", "2").stderr
    shown = json.loads(foretide("models", "show", "tier", "--json").stdout)
    assert (shown["version"], len(shown["files"])) == (1, 1)
    foretide("models", "show", "tier", "9", raises=NotFound)

    shadow = foretide("models", "shadow", "tier", "2", *REASON, "--yes")
    assert shadow.stdout == "tier 2 shadow: it was better in the pilot\n"
    assert "Would" in foretide("models", "promote", "tier", "2", *REASON, "--dry-run").stderr
    assert states()[2] == "shadow"
    promoted = json.loads(foretide("models", "promote", "tier", "2", *REASON, "--yes", "--json").stdout)
    assert (promoted["state"], promoted["replaced"]) == ("champion", 1)
    foretide("models", "retire", "tier", "2", *REASON, "--yes", raises=Conflict)
    assert "tier 1 champion" in foretide("models", "rollback", *REASON, "--yes").stdout
    assert states() == {1: "champion", 2: "retired"}
    foretide("models", "rollback", *REASON, "--yes", raises=Conflict)
    asked = CliRunner().invoke(cli, ["models", "promote", "tier", "2"])
    assert (asked.exit_code, "--reason" in asked.stderr) == (2, True)


def test_drift_and_batches(foretide: Callable[..., Result], tmp_path):
    fill(30)
    perform(roll_up)
    version(serve="first")
    assert "Nothing was compared yet" in foretide("models", "drift").stderr
    perform(watch)
    found = json.loads(foretide("models", "drift", "--json").stdout)
    assert (found["name"], found["version"]) == ("tier", 1)

    def work() -> None:
        while not stop.wait(0.1):
            with session_scope() as session:
                queued = session.scalars(select(Job.id).where(Job.kind == "predict-batch", Job.state == "queued")).all()
            for number in queued:
                predict_batch(number)

    stop = threading.Event()
    worker = threading.Thread(target=work)
    worker.start()
    try:
        all_of_them = foretide("models", "predict-batch").stdout.splitlines()
        assert {"key", "p_hot", "tier"} <= set(json.loads(all_of_them[0]))
        sent, output = tmp_path / "rows.ndjson", tmp_path / "out.ndjson"
        sent.write_text('{"decayed_7d": 3}\n{"decayed_7d": 0}\n')
        told = foretide("models", "predict-batch", "--file", str(sent), "--output", str(output))
        assert "2 lines by tier 1" in told.stderr
        assert [json.loads(line)["key"] for line in output.read_text().splitlines()] == ["1", "2"]
        sent.write_text('{"decayed_7d": 3}\n' * 20_001)
        told = foretide("models", "predict-batch", "--file", str(sent), "--output", str(output))
        assert "20001 lines by tier 1" in told.stderr
        keys = [int(json.loads(line)["key"]) for line in output.read_text().splitlines()]
        assert keys == list(range(1, 20_002))
        sent.write_text('{"decayed_7d": 3}\n' * 10_001 + '{"a~/b": 3}\n')
        wrong = foretide("models", "predict-batch", "--file", str(sent), "--output", str(output), raises=Invalid)
        assert [error.pointer for error in wrong.exception.errors] == ["/rows/10001/a~0~1b"]  # type: ignore[union-attr]
    finally:
        stop.set()
        worker.join()


def test_one_who_read_before_another_changed_is_refused(api: Api, foretide: Callable[..., Result]):
    from app.client import Client

    version(serve="first")
    version()
    with Client() as client:
        _, etag = client.model("tier")
        foretide("models", "shadow", "tier", "2", *REASON, "--yes")
        with pytest.raises(PreconditionFailed):
            client.change_version("tier", 2, "promote", "mine", etag)
    assert states()[2] == "shadow"


def test_a_model_over_own_events_is_trained_asked_exported_and_deleted(foretide: Callable[..., Result], tmp_path: Path):
    events = tmp_path / "events.ndjson"
    events.write_text("".join(json.dumps({"cpu": n % 50, "slow": n % 50 > 24}) + "\n" for n in range(300)) + "[]\n")
    own = ("models", "train", "slowness", "--events", str(events), "--features", "cpu", "--target", "slow", "--no-wait")
    foretide(*own, raises=SystemExit)  # no algorithm
    foretide("models", "train", "slowness", "--features", "cpu", raises=SystemExit)
    foretide("models", "train", "--events", str(events), raises=SystemExit)  # no name of its own
    started = foretide(*own, "--algorithm", "random_forest", "--param", "n_estimators=9", "--seed", "3", "--json")
    train_task(json.loads(started.stdout)["id"])
    (listed,) = rows(foretide("models", "list"))
    assert (listed["NAME"], listed["STATE"], listed["MEASURE"]) == ("slowness", "champion", "accuracy 1")
    assert listed["BASELINES"].startswith("majority accuracy 0.")
    (shown,) = rows(foretide("models", "versions", "slowness"))
    assert shown["REASON"].startswith("beats the baseline majority")
    (counted,) = rows(foretide("models", "importances", "slowness"))
    assert (counted["FEATURE"], float(counted["LOSS ADDED"]) > 0.1) == ("cpu", True)
    asked = tmp_path / "rows.ndjson"
    asked.write_text('{"cpu": 3}\n{"cpu": 45}\n')
    assert [row["PREDICTION"] for row in rows(foretide("models", "predict", "slowness", "--rows", str(asked)))] == [
        "False", "True",
    ]  # fmt: skip
    file = tmp_path / "slowness.onnx"
    foretide("models", "export", "slowness", "--output", str(file))
    assert onnxruntime.InferenceSession(file).get_outputs()[0].name == "label"
    foretide("models", "delete", "slowness", raises=SystemExit)  # nobody to ask
    assert "Would delete model slowness" in foretide("models", "delete", "slowness", "--dry-run").stderr
    foretide("models", "delete", "slowness", "1", "--yes", raises=Conflict)
    foretide("models", "delete", "slowness", "--yes")
    foretide("models", "predict", "slowness", "--rows", str(asked), raises=NotFound)
