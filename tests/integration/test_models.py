"""From accesses to predictions through the tasks' own functions: one champion, sealed files, only changes written."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from app.db import accesses, ingest, model_files, models, prediction_batches, predictions
from app.db.session import session_scope
from app.db.tables import Json
from app.errors import ArtifactRefused, NotFound
from ml.serving import Scores
from tests.learning import NOW, fill, perform
from workers.accesses import roll_up
from workers.models import train
from workers.predictions import predict


def one(query: str) -> Json:
    with session_scope() as session:
        return dict(session.execute(text(query)).mappings().one())


def test_from_accesses_to_predictions(clean_database: str):
    total = fill()
    nothing = perform(predict)
    assert nothing.result == {"objects": 0, "written": 0, "reason": "no model serves yet"}
    rolled = perform(roll_up)
    assert rolled.state == "succeeded"
    assert one("select sum(reads + writes) as n from access_hour")["n"] == total
    assert one("select count(*) as n from feature")["n"] == rolled.result["objects"]

    trained = perform(train)
    assert trained.state == "succeeded", trained.error
    assert trained.result["state"] == "champion"
    assert set(trained.result["baselines"]) >= {"recency", "lifetime_count", "logit_four", "forest_six"}

    first = perform(predict)
    assert first.result["written"] == first.result["objects"] == sum(first.result["tiers"].values())
    row = one("select count(*) as n, min(p_low) as low, max(p_high) as high, min(reads_30d) as reads from prediction")
    assert row["n"] == first.result["objects"]
    assert 0 <= row["low"] <= row["high"] <= 1
    assert row["reads"] > 0
    assert (
        one("select count(*) as n from object o join prediction p on p.object_id = o.id where o.tier <> p.tier")["n"]
        == 0
    )
    assert perform(predict).result["written"] == 0

    with session_scope() as session:
        version = models.champion(session, "tier") or pytest.fail("no champion")
        assert version.version == 1
        assert models.describe(version)["metrics"]["auc"] == trained.result["auc"]
        session.execute(text("update model_artifact set body = body || '\\x00' where format <> 'skops'"))
    refused = perform(predict)
    assert (refused.state, refused.reason) == ("failed", "artifact_refused")
    again = perform(train)  # training anew mends it
    assert (again.result["version"], again.result["state"]) == (2, "champion")
    assert one("select count(*) as n from model_version where state = 'champion'")["n"] == 1


def test_too_few_accesses_fail_with_a_reason(clean_database: str):
    job = perform(train)
    assert (job.state, job.reason) == ("failed", "not_enough_data")


def test_an_as_of_without_a_zone_is_refused(clean_database: str):
    job = perform(train, as_of="2026-11-20T12:00:00")
    assert (job.state, job.error["detail"]) == ("failed", "as_of has no time zone: '2026-11-20T12:00:00'")


def test_versions_promotion_and_files(session: Session):
    columns = {"algorithm": "x", "features": ["a"], "params": {}, "metrics": {}, "baselines": {}}
    first, second = (models.add(session, "m", **columns) for _ in range(2))
    assert (first.version, second.version) == (1, 2)
    models.promote(session, first, "first")
    models.promote(session, second, "better")
    assert models.champion(session, "m") is second
    assert [version.state for version in models.versions(session, "m")] == ["champion", "retired"]
    model_files.add(session, second, "packed", b"bytes")
    session.flush()
    assert model_files.read(session, second, "packed") == b"bytes"
    with pytest.raises(NotFound):
        model_files.read(session, first, "packed")
    with pytest.raises(NotFound):
        models.get(session, "m", 3)


def test_another_versions_file_is_refused(session: Session):
    columns = {"algorithm": "x", "features": ["a"], "params": {}, "metrics": {}, "baselines": {}}
    first, second = (models.add(session, "m", **columns) for _ in range(2))
    for version in (first, second):
        model_files.add(session, version, "packed", b"bytes of %d" % version.version)
    session.flush()
    session.execute(
        text(
            "update model_artifact a set body = b.body, sha256 = b.sha256, hmac = b.hmac from model_artifact b"
            " where a.model_version_id = :second and b.model_version_id = :first"
        ),
        {"first": first.id, "second": second.id},
    )
    session.expire_all()
    with pytest.raises(ArtifactRefused):
        model_files.read(session, second, "packed")


def test_only_what_changed_is_written(session: Session):
    version = models.add(session, "m", algorithm="x", features=["a"], params={}, metrics={}, baselines={})
    ids = np.array(sorted(ingest.intern(session, ["a", "b", "c"]).values()))

    def predicted(p: list[float]) -> prediction_batches.Predicted:
        values = np.array(p)
        demand = dict.fromkeys(prediction_batches.LEAST, values * 10)
        return prediction_batches.Predicted(ids, Scores(values, values, values, values), demand, version.id)

    tiers = np.array([0, 1, 2])
    as_of = accesses.microseconds(NOW)
    assert len(prediction_batches.save(session, predicted([0.1, 0.5, 0.9]), tiers, version.id, as_of)) == 3
    later = accesses.microseconds(NOW + timedelta(hours=1))
    written = prediction_batches.save(session, predicted([0.1001, 0.6, 0.9]), tiers, version.id, later)
    assert written.tolist() == [ids[1]]
    kept = predictions.of(session, int(ids[0]))
    assert kept is not None
    assert (kept.as_of, kept.tier) == (NOW, "cold")
    assert (kept.reads_1d, kept.reads_30d_high, kept.demand_version_id) == (1.0, 1.0, version.id)
    assert session.scalars(text("select tier from object order by id")).all() == ["cold", "warm", "hot"]
