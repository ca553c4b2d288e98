"""From accesses to forecasts of reads through the tasks' own functions: a sealed version, only changes written."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pytest
from sqlalchemy import text

from app.db import accesses, model_files, models
from app.db.model_files import Serving
from app.db.session import session_scope
from app.db.tables import Json
from ml.features import snapshot
from tests.learning import NOW, fill, perform
from workers import demand
from workers.accesses import roll_up
from workers.models import train
from workers.predictions import predict

COUNTS = "count(*) as n, count(demand_version_id) as told, min(reads_1d) as least"


def one(query: str) -> Json:
    with session_scope() as session:
        return dict(session.execute(text(query)).mappings().one())


def predictions() -> Json:
    """How many there are, and how many of them are out of order: more days hold no fewer reads."""
    wrong = "reads_30d_low > reads_30d_high or reads_1d > reads_30d * 2 or bytes_7d < 0"
    return one(f"select {COUNTS}, count(*) filter (where {wrong}) as wrong from prediction")


def test_from_accesses_to_forecasts(clean_database: str):
    fill(60)
    assert perform(roll_up).state == "succeeded"
    assert perform(train).state == "succeeded"
    first = perform(predict)
    assert (first.state, first.result["demand_version"]) == ("succeeded", None)
    plain = predictions()
    assert (plain["told"], plain["wrong"]) == (0, 0)
    assert plain["n"] == first.result["written"] > 0
    assert plain["least"] > 0

    trained = perform(train, model="demand")
    assert trained.state == "succeeded", trained.error
    assert (trained.result["state"], trained.result["version"]) == ("champion", 1)
    assert "1d" in trained.result["horizons"]
    assert "30d" in trained.result["too_short"]  # a month says nothing of months
    with session_scope() as session:
        version = models.champion(session, "demand") or pytest.fail("no champion")
        assert [file["format"] for file in model_files.listing(session, version)] == ["baseline", "packed", "skops"]
        horizon = version.metrics["horizons"]["1d"]
        assert {row["kind"] for row in horizon["models"]} == {"model", "baseline"}
        assert version.rows["test"] > 0
        described = models.describe(version)
    assert set(described["baselines"]) == {"last_window", "rate_30d", "rate_lifetime", "prefix_mean"}

    second = perform(predict)
    assert (second.state, second.result["demand_version"]) == ("succeeded", 1), second.error
    told = predictions()
    assert told["told"] == told["n"] == second.result["written"] == second.result["objects"]
    assert told["wrong"] == 0
    assert perform(predict).result["written"] == 0


def test_spreads_follow_what_came_true_after_the_training(clean_database: str):
    fill(60)
    perform(roll_up)
    assert perform(train, model="demand", as_of=(NOW - timedelta(days=3)).isoformat()).state == "succeeded"
    with session_scope() as session:
        serving = demand.load_serving(session)
        gone, ended = (
            "update object set state = 'gone', gone_at = :at where id % 3 = 0 returning id",
            NOW - timedelta(days=1),
        )
        ids = session.scalars(text(gone), {"at": ended}).all()
        observed = demand.observations.observe(session, NOW)
    assert isinstance(serving, Serving)
    (day,) = (one for one in serving.opened.learned if one.days == 1)
    now, past = accesses.microseconds(NOW), demand.past(NOW)
    told = serving.opened.forecast(
        observed.history, observed.catalogue, now, snapshot(observed.history, observed.catalogue, now), past
    )
    assert set(told) == {1, 7, 30}
    assert all(len(found.reads) == len(observed.ids) for found in told.values()), "of those that are there"
    known = day.known_by(past.observer, past.end, past.ids)
    assert len(known) > len(day.known)
    assert (known.cut[len(day.known) :] + demand.DAY > day.end).all(), "the training knew no outcome of them"
    assert (known.cut + demand.DAY <= now).all()
    later = known.where(known.cut + demand.DAY > day.end)
    of_gone = later.cut[np.isin(later.object, ids)]
    assert len(of_gone) > 0, "spreads are renewed by what has ended since too"
    assert of_gone.max() <= accesses.microseconds(ended)


def test_a_changed_file_is_refused_and_gamma_poisson_says_the_demand(clean_database: str):
    fill(60)
    perform(roll_up)
    perform(train)
    perform(train, model="demand")
    with session_scope() as session:
        session.execute(
            text(
                "update model_artifact a set body = body || '\\x00' from model_version v"
                " where v.id = a.model_version_id and v.name = 'demand'"
            )
        )
    done = perform(predict)
    assert done.state == "succeeded"
    assert (done.result["demand_version"], done.result["demand_refused"] != "") == (None, True)
    assert predictions()["told"] == 0
    assert one("select count(*) as n from alert where kind = 'model_refused' and state = 'active'")["n"] == 1


def test_too_short_a_history_is_told(clean_database: str):
    job = perform(train, model="demand")
    assert (job.state, job.reason) == ("failed", "not_enough_data")
