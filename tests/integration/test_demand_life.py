"""The life of the model of demand: a gate, a shadow, who serves, and what serves where a file is refused."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text

from app.db import accesses, model_files, models, observations
from app.db.session import session_scope
from app.settings import Settings
from ml import demand_drift, drift
from ml.demand_models import FEATURES
from ml.demand_rows import COLUMNS, Observer
from ml.history import DAY as DAY_US
from tests.integration.conftest import Api
from tests.learning import DAY, NOW, by_feature, demand_version, fill, forecaster, perform, states, version
from workers.accesses import roll_up
from workers.drift import watch
from workers.models import train
from workers.predictions import predict

START = NOW - 6 * DAY


@pytest.fixture
def living(clean_database: str, configure: Callable[..., Settings]) -> None:
    """A month of accesses, and champions of both models."""
    configure(shadow_s=1.5 * 86_400)
    fill(60)
    perform(roll_up)
    version(by_feature("decayed_7d"), serve="first")
    demand_version(serve="first")


def pass_time(days: float) -> list[Any]:
    """Passes of predictions each six hours; what each told of the shadow."""
    told = []
    for step in range(round(days * 4)):
        done = perform(predict, as_of=(START + step * timedelta(hours=6)).isoformat())
        assert done.state == "succeeded", done.error
        told.append(done.result.get("demand_shadow"))
    return told


def put_in_shadow(number: int) -> None:
    with session_scope() as session:
        models.put_in_shadow(session, models.get(session, "demand", number), "try")


def test_a_shadow_as_good_is_promoted_and_the_next_candidate_takes_its_place(living: None):
    put_in_shadow(demand_version())
    waiting = demand_version()
    told = pass_time(2)
    assert [each for each in told if each] == told[6:7], "judged once its time is over"
    assert "version 2 champion: as shadow no worse than the champion" in told[6]
    assert states("demand") == {1: "retired", 2: "champion", waiting: "shadow"}
    with session_scope() as session:
        found = models.get(session, "demand", 2).gate["shadow"]
        assert found["n"] > 50
        assert found["quantile_loss"]["gain"] == 0
        assert found["quantile_loss"]["value"] > 0
        said = session.execute(text("select said, said_champion from shadow_score")).all()
    assert said, "the next one has begun"
    assert all(len(each) == len(beside) == 3 and each == sorted(each) for each, beside in said)
    assert states() == {1: "champion"}, "the other model is left alone"


def test_a_shadow_that_is_worse_is_retired_and_never_served(living: None):
    put_in_shadow(demand_version(forecaster(times=8)))
    told = [each for each in pass_time(1.75) if each]
    assert len(told) == 1
    assert "version 2 retired: as shadow worse than the champion" in told[0]
    assert "quantile loss -" in told[0]
    assert states("demand") == {1: "champion", 2: "retired"}


def test_a_champion_whose_file_is_refused_is_replaced_by_its_baseline_with_an_alert(living: None):
    put_in_shadow(demand_version())
    with session_scope() as session:
        session.execute(
            text(
                "update model_artifact a set body = body || '\\x00' from model_version v"
                " where v.id = a.model_version_id and v.name = 'demand' and v.version = 1 and a.format = 'packed'"
            )
        )
    done = perform(predict)
    assert done.state == "succeeded"
    assert (done.result["demand_version"], done.result["demand_serves"]) == (1, "baseline")
    with session_scope() as session:
        told = session.scalars(text("select message from alert where kind = 'model_refused'")).all()
        assert session.scalar(text("select count(*) from shadow_score")) == 0, "nothing to be compared with"
    assert len(told) == 1
    assert "the baseline of version 1 serves instead" in told[0]


def test_versions_are_promoted_rolled_back_and_retired_by_hand(make_api: Callable[..., Api]):
    api = make_api()
    demand_version(serve="first")
    second, third = demand_version(), demand_version()
    why = {"reason": "it was better in the pilot"}

    def change(path: str) -> Any:
        tag = {"If-Match": api.get("/v1/models/demand").headers["ETag"]}
        return api.post(f"/v1/models/demand{path}", why, headers=tag)

    assert change(f"/versions/{second}:shadow").json["state"] == "shadow"
    assert change(f"/versions/{second}:promote").json["replaced"] == 1
    assert change(":rollback").json["version"] == 1
    assert change(f"/versions/{third}:retire").json["state"] == "retired"
    assert states("demand") == {1: "champion", 2: "retired", 3: "retired"}


def test_drift_of_features_and_coverage_is_told_and_rings_one_training(living: None, make_api: Callable[..., Api]):
    end = accesses.microseconds(NOW - 4 * DAY)
    with session_scope() as session:
        observed = observations.observe_hours(session, NOW - 4 * DAY)
    seen = demand_drift.recent(Observer(observed.history, observed.catalogue, DAY_US), end, 0)
    assert seen is not None
    sound = {"reference": drift.reference(seen.X, seen.object, FEATURES, COLUMNS), "data_to": NOW - 4 * DAY}
    demand_version(forecaster(end=NOW - 4 * DAY), serve="sound", **sound)
    told = perform(watch).result["demand"]
    assert (told["version"], told["over"], told["retrain"]) == (2, [], False)
    api = make_api()
    found = api.get("/v1/models/demand/drift").json
    assert found["calibration"] is None
    assert found["coverage"]["n"] > 100
    assert found["coverage"]["predicted"] == pytest.approx(0.8)
    assert {row["feature"] for row in found["features"]} >= {"expected", "reads_before", "access_24h"}
    metrics = api.get("/metrics").text
    for gauge in ("version", "age_seconds", "drift_psi", "features_over", "coverage_gap"):
        assert f'foretide_model_{gauge}{{model="demand"}}' in metrics
    sound["reference"] = drift.reference(seen.X * 50 + 10, seen.object, FEATURES, COLUMNS)
    demand_version(forecaster(end=NOW - 4 * DAY), serve="it saw another world", **sound)
    drifted = perform(watch).result["demand"]
    assert (drifted["version"], drifted["retrain"]) == (3, True)
    assert "expected" in drifted["over"]
    assert perform(watch).result["demand"]["retrain"] is False, "one is under way"
    with session_scope() as session:
        (message,) = session.scalars(text("select message from alert where kind = 'model_drift' and state = 'active'"))
        rung = session.scalars(text("select args ->> 'model' from job where kind = 'train'")).all()
    assert "demand version 3 no longer sees what it was trained on" in message
    assert rung == ["demand"]


def test_a_training_stands_the_gate_and_is_shadow(clean_database: str, make_api: Callable[..., Api]):
    fill(30)
    perform(roll_up)
    until = (NOW - 2 * DAY).isoformat()
    first, second = perform(train, model="demand", as_of=until), perform(train, model="demand")
    assert [done.result["state"] for done in (first, second)] == ["champion", "shadow"], second.error
    assert "no worse than the champion on" in second.result["reason"]
    found = make_api().get("/v1/models/demand/versions/2").json
    assert (found["parent"], found["job_id"]) == (1, second.id)
    gain = found["gate"]["training"]["quantile_loss_1d"]
    assert gain["n"] == found["metrics"]["horizons"]["1d"]["rows"]["test"]
    assert gain["interval"][0] <= gain["gain"] <= gain["interval"][1]
    assert {file["format"] for file in found["files"]} == {"baseline", "packed", "skops"}


def test_what_is_sound_takes_the_place_of_a_refused_champion_at_once(clean_database: str):
    fill(20)
    perform(roll_up)
    demand_version(serve="first")
    with session_scope() as session:
        session.execute(text("update model_artifact set hmac = repeat('0', 64)"))
    assert perform(train, model="demand").result["state"] == "champion"
    assert states("demand") == {1: "retired", 2: "champion"}
    with session_scope() as session:
        assert model_files.refusal(session, models.get(session, "demand", 2)) is None
