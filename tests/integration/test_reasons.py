"""Predictions tell why: features that set an object apart, by API and explanation, over a model that was trained."""

from __future__ import annotations

import numpy as np
import pytest
from sqlalchemy import select, text

from app.db.session import session_scope
from app.db.tables import Feature, Object, Prediction, Replica
from app.domain.states import ObjectState, ReplicaState
from ml.features import NAMES
from tests.integration.conftest import Api
from tests.integration.test_plans import add_sites
from tests.learning import DAY, NOW, fill, perform
from workers.accesses import roll_up
from workers.models import train
from workers.predictions import predict


@pytest.fixture
def predicted(api: Api) -> Api:
    """A month of accesses with predictions."""
    fill()
    for task in (roll_up, train, predict):
        assert perform(task).state == "succeeded"
    return api


def hottest() -> tuple[str, dict[str, float]]:
    """The key and features of the object of the highest probability."""
    with session_scope() as session:
        found = select(Object.key, Feature.values).join(Feature, Feature.object_id == Object.id)
        ranked = found.join(Prediction, Prediction.object_id == Object.id).order_by(Prediction.p_hot.desc())
        key, values = session.execute(ranked.limit(1)).one()
    return key, dict(zip(NAMES, values, strict=True))


def place(key: str) -> None:
    """Gives the object a copy that is read."""
    with session_scope() as session:
        site_id = add_sites(session)["aws-eu"]
        row = session.scalars(select(Object).where(Object.key == key)).one()
        row.state, row.size = ObjectState.PRESENT, 2**30
        session.add(
            Replica(
                object_id=row.id,
                site_id=site_id,
                storage_class="STANDARD",
                state=ReplicaState.SERVING,
                is_origin=True,
                object_version=row.version,
                size=row.size,
                class_since=NOW - 60 * DAY,
            )
        )


def test_rows_are_told_with_their_reasons(predicted: Api):
    _, row = hottest()
    (told,) = predicted.post("/v1/models/tier:predict", {"rows": [row]}).json["predictions"]
    assert 1 <= len(told["reasons"]) <= 3
    for reason in told["reasons"]:
        assert reason["value"] == pytest.approx(np.float32(row[reason["feature"]]))
        assert reason["value"] != reason["typical"]
    effects = [abs(reason["effect"]) for reason in told["reasons"]]
    assert effects == sorted(effects, reverse=True)
    assert told["reasons"][0]["effect"] > 0, "it is the hottest"
    many = predicted.post("/v1/models/tier:predict", {"rows": [row] * 101}).json["predictions"]
    assert "reasons" not in many[0]


def test_an_explanation_has_the_reasons_of_the_prediction(predicted: Api):
    key, row = hottest()
    place(key)
    found = predicted.get("/v1/explanation", query_string={"key": key}).json["prediction"]
    assert found["p_hot"] > 0.5
    assert found["reasons"]
    for reason in found["reasons"]:
        assert reason["value"] == pytest.approx(row[reason["feature"]], rel=1e-5)
        assert reason["effect"] != 0


def test_without_a_model_that_serves_the_prediction_stands_alone(predicted: Api):
    key, _ = hottest()
    place(key)
    with session_scope() as session:
        session.execute(text("update model_version set state = 'retired'"))
    found = predicted.get("/v1/explanation", query_string={"key": key}).json["prediction"]
    assert found["p_hot"] > 0.5
    assert found["reasons"] is None
