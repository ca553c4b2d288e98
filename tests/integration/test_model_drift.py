"""The watch over what serves: nothing without drift, an alert and one training with it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from sqlalchemy import select, text

from app.db import accesses, alerts, ingest, model_files, models, observations
from app.db.session import session_scope
from app.db.tables import Job
from app.domain.accesses import Block
from app.settings import Settings
from ml import dataset, recalibration
from ml.serving import Calibration
from tests.integration.conftest import Api
from tests.learning import DAY, NOW, fill, perform, version
from workers.accesses import roll_up
from workers.drift import watch
from workers.models import open_packed, past_of, train
from workers.predictions import predict

TWIN = ("algorithm", "features", "metrics", "baselines", "data_from", "data_to", "reference")
TRAINED = NOW - 5 * DAY


def trainings() -> list[Job]:
    with session_scope() as session:
        return list(session.scalars(select(Job).where(Job.kind == "train").order_by(Job.id)))


def drifts() -> list[str]:
    with session_scope() as session:
        return [row.message for row in alerts.open_alerts(session) if row.kind == "model_drift"]


def read_much(reads: int = 60) -> None:
    """Every object is read each quarter of an hour for the last days."""
    with session_scope() as session:
        keys = list(session.scalars(text("select key from object order by id")))
    ts = [int((NOW - timedelta(minutes=15 * step)).timestamp() * 1e6) for step in range(1, reads * 8)]
    for key in keys:
        n = len(ts)
        none: list[Any] = [None] * n
        block = Block(ts, [key] * n, ["GET"] * n, none, [1000] * n, none, none, none, none, [False] * n)
        with session_scope() as session:
            ingest.copy_block(session, block)


@pytest.fixture
def trained(clean_database: str) -> None:
    """A month of accesses, and a champion that was trained five days before its end."""
    fill()
    perform(roll_up)
    done = perform(train, as_of=TRAINED.isoformat())
    assert done.result["state"] == "champion", done.error


def test_without_drift_nothing_rings(trained: None, make_api: Callable[..., Api]):
    api = make_api()
    before = api.get("/v1/models/tier/drift").json
    assert (before["as_of"], before["features"]) == (None, [])
    done = perform(watch)
    told = done.result["tier"]
    assert (told["version"], told["over"], told["retrain"]) == (1, [], False), api.get("/v1/models/tier/drift").json
    assert drifts() == []
    assert len(trainings()) == 1
    found = api.get("/v1/models/tier/drift").json
    assert (found["version"], found["as_of"]) == (1, NOW.isoformat())
    for row in found["features"]:
        assert 0 <= row["psi"] <= row["limit"]
        assert 0 <= row["ks"] <= 1
        assert row["n"] > row["objects"] > 10
        assert row["over"] is False
    assert found["calibration"]["n"] > 100
    assert found["calibration"]["interval"][0] <= found["calibration"]["interval"][1]
    metrics = api.get("/metrics").text
    assert 'foretide_model_version{model="tier"} 1.0' in metrics
    assert 'foretide_model_features_over{model="tier"} 0.0' in metrics
    assert 'foretide_model_drift_psi{model="tier"}' in metrics


def test_drift_raises_an_alert_and_rings_one_training(
    trained: None, make_api: Callable[..., Api], configure: Callable[..., Settings]
):
    read_much()
    perform(roll_up)
    configure(retrain_every_s=0)
    first = perform(watch).result["tier"]
    assert first["retrain"]
    assert "access_24h" in first["over"]
    assert len(drifts()) == 1
    assert "PSI" in drifts()[0]
    assert perform(watch).result["tier"]["retrain"] is False, "one is under way"
    rung = trainings()
    assert len(rung) == 2
    assert rung[1].args == {"model": "tier", "why": "drift", "as_of": NOW.isoformat()}
    api = make_api()
    found = api.get("/v1/models/tier/drift").json
    assert {row["feature"] for row in found["features"] if row["over"]} <= set(first["over"])
    assert (
        f'foretide_model_features_over{{model="tier"}} {len([o for o in first["over"] if o != "calibration"])}.0'
        in api.get("/metrics").text
    )
    train(rung[1].id)
    configure(retrain_every_s=3600)
    assert perform(watch).result["tier"]["retrain"] is False, "the last one is too young"
    configure(retrain_every_s=0)
    assert perform(watch).result["tier"]["retrain"] is True


def p_hot(api: Api) -> float:
    """Of an object that is read now and then."""
    row = {"recency_s": 90_000.0, "rate_7d": 1.0, "rate_30d": 1.0, "decayed_7d": 1.0, "decayed_30d": 1.0}
    answer = api.post("/v1/models/tier:predict", json={"rows": [row]})
    assert answer.status_code == 200
    return float(answer.json["predictions"][0]["p_hot"])


def test_probabilities_follow_what_has_happened_since(trained: None, make_api: Callable[..., Api]):
    api = make_api()
    before = p_hot(api)
    read_much()
    perform(roll_up)
    assert perform(watch).result["tier"]["recalibrated"] is True
    assert 1 - p_hot(api) < 0.75 * (1 - before), "every object was read since"
    assert perform(watch).result["tier"]["recalibrated"] is False, "nothing has happened since"
    (files,) = [api.get("/v1/models/tier/versions/1").json["files"]]
    assert "calibration" in {file["format"] for file in files}


def test_a_shadows_probabilities_follow_as_the_champions_do(trained: None, make_api: Callable[..., Api]):
    with session_scope() as session:
        champion = models.get(session, "tier", 1)
        twin = models.add(session, "tier", **{name: getattr(champion, name) for name in TWIN})
        for form in ("packed", "baseline", "outcomes"):
            model_files.add(session, twin, form, model_files.read(session, champion, form))
        models.put_in_shadow(session, twin, "the same again")
    read_much()
    perform(roll_up)
    assert perform(watch).result["tier"]["shadow_recalibrated"] is True
    done = perform(predict)
    assert done.state == "succeeded", done.error
    with session_scope() as session:
        scores = session.execute(text("select said[1], said_champion[1] from shadow_score")).all()
    assert len(scores) > 10
    assert max(abs(p - beside) for p, beside in scores) < 1e-9


def test_a_refused_calibration_leaves_that_of_the_training(trained: None, make_api: Callable[..., Api]):
    before = p_hot(make_api())
    read_much()
    perform(roll_up)
    assert perform(watch).result["tier"]["recalibrated"] is True
    with session_scope() as session:
        session.execute(text("update model_artifact set body = body || '\\x00' where format = 'calibration'"))
    assert p_hot(make_api()) == before
    with session_scope() as session:
        told = [row.message for row in alerts.open_alerts(session) if row.kind == "model_refused"]
    assert len(told) == 1
    assert "with the calibration of its training" in told[0]


@pytest.mark.parametrize("harm", ["update model_artifact set hmac = repeat('0', 64)", "delete from model_artifact"])
def test_a_champion_whose_file_is_refused_or_gone_is_trained_anew(trained: None, harm: str):
    with session_scope() as session:
        session.execute(text(harm))
        session.execute(text("update job set created_at = created_at - interval '1 day'"))
    assert perform(watch).result["tier"]["retrain"] is True
    (_, rung) = trainings()
    assert rung.args["why"] == "the file is refused"
    train(rung.id)
    assert version() == 3
    with session_scope() as session:
        states = session.execute(text("select state from model_version order by version")).scalars().all()
    assert states == ["retired", "champion", "candidate"], "what is sound takes the place of a refused one at once"


def test_before_a_champion_there_is_nothing_to_watch(make_api: Callable[..., Api]):
    assert perform(watch).result == {}
    assert make_api().get("/v1/models/tier/drift").status_code == 404


def test_calibration_counts_only_rows_after_the_training(trained: None, make_api: Callable[..., Api]):
    perform(watch, as_of=TRAINED.isoformat())
    assert make_api().get("/v1/models/tier/drift").json["calibration"] is None


def test_the_curve_that_serves_is_the_one_that_an_evaluation_measures(trained: None):
    """On the same history: what the watch renews at a step is what the rows of that step are measured by."""
    read_much(reads=20)
    perform(roll_up)
    step = NOW - DAY
    assert perform(watch, as_of=step.isoformat()).result["tier"]["recalibrated"] is True
    with session_scope() as session:
        champion = models.get(session, "tier", 1)
        packed = open_packed(model_files.read(session, champion, "packed"))
        past = past_of(session, champion, packed)
        served = Calibration.from_bytes(model_files.read(session, champion, "calibration"))
        observed = observations.observe_hours(session, NOW)
    rows = dataset.build(observed.history, observed.catalogue, accesses.microseconds(NOW), 0).parts[dataset.Part.TEST]
    later = recalibration.Known(packed.raw(rows.X), rows.y, observed.ids[rows.object], rows.cut)
    later = later.where(later.cut > past.known.cut.max())
    now = later.cut == accesses.microseconds(step)
    p = recalibration.rolled(past.curve, past.known, later, dataset.DAY)
    assert now.sum() > 20
    assert np.allclose(p[now], np.interp(later.raw[now], served.x, served.p), rtol=0, atol=1e-12)
    assert np.abs(p[now] - np.interp(later.raw[now], past.curve.x, past.curve.p)).max() > 0.01


def test_the_alert_judges_what_served_and_not_the_curve_of_the_training(trained: None, make_api: Callable[..., Api]):
    """A curve of the training that is far off rings nothing once it is renewed from what has happened."""
    with session_scope() as session:
        champion = models.get(session, "tier", 1)
        packed = open_packed(model_files.read(session, champion, "packed"))
        rare = np.full(2, 0.05)
        wrong = Calibration(np.array([0.0, 1.0]), rare, rare, rare)
        model_files.put(session, champion, "packed", packed.recalibrated(wrong).to_bytes())
    perform(watch)
    found = make_api().get("/v1/models/tier/drift").json["calibration"]
    assert abs(found["happened"] - found["predicted"]) < 0.05
    assert found["happened"] > 0.2
    assert found["over"] is False
