"""A model's life over the real database: who serves, who is shadow, what becomes of it, and by whose hand."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import func, select, text
from sqlalchemy.orm import Session

from app.db import model_files, models, sweep
from app.db import session as database
from app.db.session import session_scope
from app.db.tables import Audit, Prediction, ShadowScore
from app.domain.roles import Role
from app.errors import Conflict, NotFound
from app.settings import Settings
from ml.features import NAMES
from tests.integration.conftest import Api
from tests.learning import DAY, NOW, by_feature, fill, job, perform, states, submit, version
from workers.accesses import roll_up
from workers.models import train
from workers.predictions import predict

START = NOW - 6 * DAY


def predicted_by() -> set[int]:
    """The versions that the stored predictions come from."""
    with session_scope() as session:
        ids = set(session.scalars(select(Prediction.model_version_id).distinct()))
        return {row.version for row in models.versions(session, "tier") if row.id in ids}


def scores() -> int:
    with session_scope() as session:
        return session.scalar(select(func.count()).select_from(ShadowScore)) or 0


def await_true(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.02)


# -- By hand


def test_a_rollback_leads_back_one_champion_at_a_time(session: Session):
    columns = {"algorithm": "x", "features": ["a"]}
    first, second, third = (models.add(session, "tier", **columns) for _ in range(3))
    with pytest.raises(NotFound):
        models.roll_back(session, "tier", "why")
    for version_ in (first, second, third):
        models.promote(session, version_, "better")
    assert [row.replaced for row in (first, second, third)] == [None, 1, 2]
    assert models.roll_back(session, "tier", "worse at night", actor="eve") is second
    assert models.roll_back(session, "tier", "also worse") is first
    assert [str(row.state) for row in (first, second, third)] == ["champion", "retired", "retired"]
    assert third.reason == "rolled back: worse at night"
    with pytest.raises(Conflict, match="no version of model tier served before version 1"):
        models.roll_back(session, "tier", "why")
    rows = session.scalars(select(Audit).where(Audit.action == "model.roll_back").order_by(Audit.id)).all()
    assert [(row.actor, row.subject, row.data["from"]) for row in rows] == [
        ("eve", "model tier 2", 3),
        ("worker", "model tier 1", 2),
    ]
    models.promote(session, third, "better after all")
    assert models.roll_back(session, "tier", "no") is first


def test_rollbacks_never_go_in_a_circle(session: Session):
    columns = {"algorithm": "x", "features": ["a"]}
    first, second, third = rows = [models.add(session, "tier", **columns) for _ in range(3)]
    for row in (*rows, first, third):
        models.promote(session, row, "this one")
    assert list(models.earlier(session, third)) == [first, second]
    assert list(models.earlier(session, third, 1)) == [first]
    assert models.roll_back(session, "tier", "why") is first
    assert models.roll_back(session, "tier", "why") is second
    with pytest.raises(Conflict):
        models.roll_back(session, "tier", "why")


def test_the_table_of_transitions_holds_for_rows(session: Session):
    columns = {"algorithm": "x", "features": ["a"]}
    first, second, third = (models.add(session, "tier", **columns) for _ in range(3))
    with pytest.raises(Conflict, match="no version of model tier serves"):
        models.put_in_shadow(session, first, "why")
    models.promote(session, first, "first")
    for change in (models.promote, models.put_in_shadow, models.retire):
        with pytest.raises(Conflict):
            change(session, first, "why")
    models.put_in_shadow(session, second, "try")
    models.put_in_shadow(session, third, "try this")
    assert (str(second.state), second.reason) == ("retired", "version 3 is the shadow instead")
    with pytest.raises(Conflict):
        models.put_in_shadow(session, third, "again")
    other = models.add(session, "placement", **columns)
    models.promote(session, other, "first")
    with pytest.raises(Conflict, match="has no shadow"):
        models.put_in_shadow(session, models.add(session, "placement", **columns), "why")


def test_changes_by_hand_need_a_reason_a_role_and_what_was_read(api: Api):
    first, second = version(serve="first"), version()
    path = f"/v1/models/tier/versions/{second}"
    tag = {"If-Match": api.get(path).headers["ETag"]}
    assert api.get("/v1/models/tier").headers["ETag"] == tag["If-Match"]
    why = {"reason": "it was better in the pilot"}
    assert api.post(f"{path}:promote", why).status_code == 428
    assert api.post(f"{path}:promote", why, headers={"If-Match": '"1"'}).status_code == 412
    assert api.post(f"{path}:promote", {}, headers=tag).status_code == 422
    assert api.post(f"{path}:promote", {"reason": ""}, headers=tag).status_code == 422
    assert api.post(f"{path}:promote", why, headers=tag, role=Role.VIEWER).status_code == 403
    assert api.post("/v1/models/tier/versions/9:promote", why, headers=tag).status_code == 404
    done = api.post(f"{path}:promote", why, headers=tag, role=Role.OPERATOR)
    assert (done.status_code, done.json["state"], done.json["reason"]) == (200, "champion", why["reason"])
    assert done.json["replaced"] == first
    assert states() == {first: "retired", second: "champion"}
    assert api.post(f"{path}:promote", why, headers=tag).status_code == 412, "it has changed since"
    tag = {"If-Match": done.headers["ETag"]}
    assert api.post(f"{path}:promote", why, headers=tag).status_code == 409
    assert api.post(f"{path}:retire", why, headers=tag).status_code == 409
    back = api.post("/v1/models/tier:rollback", why, headers=tag)
    assert (back.status_code, back.json["version"]) == (200, first)
    tag = {"If-Match": back.headers["ETag"]}
    none = api.post("/v1/models/tier:rollback", why, headers=tag)
    assert (none.status_code, none.json["type"].rpartition("/")[2]) == (409, "conflict")
    shadow = api.post(f"{path}:shadow", why, headers=tag)
    assert shadow.json["state"] == "shadow"
    found = api.get("/v1/models/tier").json
    assert [found[place]["version"] if found[place] else None for place in ("champion", "shadow", "candidate")] == [
        1,
        2,
        None,
    ]
    gone = api.post(f"{path}:retire", why, headers={"If-Match": shadow.headers["ETag"]})
    assert gone.json["state"] == "retired"
    with session_scope() as session:
        found = session.scalars(select(Audit).where(Audit.action.startswith("model.")).order_by(Audit.id)).all()
    assert [row.action for row in found] == [
        "model.promote", "model.promote", "model.roll_back", "model.shadow", "model.retire",
    ]  # fmt: skip
    assert (found[1].actor, found[1].data["reason"]) == ("operator", why["reason"])
    assert found[1].request_id


def test_two_who_promote_from_one_reading_do_not_both(api: Api):
    version(serve="first")
    numbers = [version() for _ in range(4)]
    tag = {"If-Match": api.get("/v1/models/tier").headers["ETag"]}

    def promote(number: int) -> int:
        return api.post(f"/v1/models/tier/versions/{number}:promote", {"reason": "mine"}, headers=tag).status_code

    with ThreadPoolExecutor(4) as pool:
        assert sorted(pool.map(promote, numbers)) == [200, 412, 412, 412]
    assert sorted(states().values()) == ["candidate"] * 3 + ["champion", "retired"]


# -- Predictions follow


def test_predictions_follow_a_promotion_and_a_rollback_at_their_next_pass(clean_database: str):
    fill(20)
    version(by_feature("access_7d"), serve="first")
    assert perform(predict).result["model_version"] == 1
    version(by_feature("decayed_7d"), serve="better")
    assert predicted_by() == {1}
    assert perform(predict).result["model_version"] == 2
    assert predicted_by() == {2}
    with session_scope() as session:
        models.roll_back(session, "tier", "worse")
    assert perform(predict).result["model_version"] == 1
    assert predicted_by() == {1}


def test_a_promotion_while_predictions_are_written_holds_from_the_next_pass(clean_database: str):
    fill(20)
    version(by_feature("access_7d"), serve="first")
    version(by_feature("decayed_7d"))
    running = submit(predict)
    with ThreadPoolExecutor(1) as pool:
        with session_scope() as blocking:
            blocking.execute(text("lock table prediction in exclusive mode"))
            done = pool.submit(predict, running)
            with session_scope() as session:
                await_true(lambda: _waits_for_a_lock(session), "predictions to be written")
            with session_scope() as session:
                models.promote(session, models.get(session, "tier", 2), "while predictions are written")
        done.result(60)
    assert job(running).result["model_version"] == 1
    assert predicted_by() == {1}
    perform(predict)
    assert predicted_by() == {2}


def _waits_for_a_lock(session: Session) -> bool:
    waiting = text("select count(*) from pg_locks where relation = 'prediction'::regclass and not granted")
    return bool(session.scalar(waiting))


# -- Shadows


def pass_time(days: float, since: timedelta = timedelta(0)) -> list[Any]:
    """Passes of predictions each six hours, as of times after which accesses are known; what each told of shadows."""
    told = []
    for step in range(round(days * 4)):
        moment = START + since + step * timedelta(hours=6)
        done = perform(predict, as_of=moment.isoformat())
        assert done.state == "succeeded", done.error
        told.append(done.result.get("shadow"))
    return told


@pytest.fixture
def living(clean_database: str, configure: Callable[..., Settings]) -> None:
    """A month of accesses and a champion that knows something."""
    configure(shadow_s=1.5 * 86_400)
    fill(60)
    perform(roll_up)
    version(by_feature("decayed_7d"), serve="first")


def put_in_shadow(number: int) -> None:
    with session_scope() as session:
        models.put_in_shadow(session, models.get(session, "tier", number), "try")


def test_a_shadow_as_good_is_promoted_and_the_next_candidate_takes_its_place(living: None):
    put_in_shadow(version())
    waiting = version(by_feature("access_7d"))
    told = pass_time(2)
    assert [each for each in told if each] == told[6:7], "judged once its time is over, at the first pass"
    assert "version 2 champion: as shadow no worse than the champion" in told[6]
    assert states() == {1: "retired", 2: "champion", waiting: "shadow"}
    with session_scope() as session:
        promoted = models.get(session, "tier", 2)
        assert promoted.replaced == 1
        found = promoted.gate["shadow"]
        assert found["n"] > 50
        assert found["log_loss"]["gain"] == 0
    assert scores() > 0, "the next one has begun"
    assert predicted_by() >= {2}


def test_a_shadow_that_is_worse_is_retired_and_never_served(living: None):
    put_in_shadow(version(by_feature("decayed_7d", -1.0)))
    told = [each for each in pass_time(2) if each]
    assert len(told) == 1
    assert "version 2 retired: as shadow worse than the champion" in told[0]
    assert states() == {1: "champion", 2: "retired"}
    assert predicted_by() == {1}
    assert scores() == 0


def test_a_shadow_scores_once_a_step_and_only_a_sample(living: None, configure: Callable[..., Settings]):
    put_in_shadow(version())
    for minutes in (0, 5, 10, 359):
        perform(predict, as_of=(START + timedelta(minutes=minutes)).isoformat())
    once = scores()
    assert 0 < once <= 60
    perform(predict, as_of=(START + timedelta(minutes=360)).isoformat())
    assert once < scores() <= 2 * 60


def test_outcomes_enough_end_the_time_early(living: None, configure: Callable[..., Settings]):
    configure(shadow_s=30 * 86_400, shadow_outcomes=100)
    put_in_shadow(version())
    assert [each for each in pass_time(2) if each]
    assert states()[2] == "champion"


def test_a_shadow_of_which_too_little_happens_is_given_up(living: None, configure: Callable[..., Settings]):
    configure(shadow_s=6 * 3600)
    put_in_shadow(version(metrics={"horizon_h": 24 * 365}))
    told = [each for each in pass_time(1.25) if each]
    assert len(told) == 1
    assert "too little happened to judge it: 0 of 0 were read" in told[0]
    assert states() == {1: "champion", 2: "retired"}


def test_another_champion_begins_a_shadows_time_anew(living: None):
    put_in_shadow(version())
    pass_time(0.5)
    assert scores() > 0
    third = version(by_feature("access_7d"))
    with session_scope() as session:
        models.promote(session, models.get(session, "tier", third), "by hand")
    assert scores() == 0
    assert states() == {1: "retired", 2: "shadow", 3: "champion"}


def test_a_shadow_of_other_features_is_retired(living: None):
    other = by_feature()
    put_in_shadow(version(type(other)(other.kind, (*NAMES, "moon"), other.body, other.calibration)))
    pass_time(0.25)
    assert states() == {1: "champion", 2: "retired"}


# -- Trainings


def test_the_first_version_serves_and_the_next_is_its_shadow_with_its_lineage(api: Api):
    fill()
    perform(roll_up)
    first, second, third = (perform(train) for _ in range(3))
    assert [done.result["state"] for done in (first, second, third)] == ["champion", "shadow", "candidate"]
    assert "no worse than the champion on" in second.result["reason"]
    assert "waits until the shadow is judged" in third.result["reason"]
    found = api.get("/v1/models/tier/versions/2").json
    assert (found["parent"], found["job_id"], found["replaced"]) == (1, second.id, None)
    assert set(found["rows"]) == {"train", "calibrate", "test"}
    assert found["params"]["seed"]
    assert set(found["libraries"]) >= {"numpy", "scikit-learn"}
    assert found["data"]["from"] < found["data"]["to"]
    assert {file["format"] for file in found["files"]} >= {"packed", "baseline"}
    assert all(len(file["sha256"]) == len(file["hmac"]) == 64 and file["bytes"] for file in found["files"])
    assert found["gate"]["training"]["n"] == found["rows"]["test"]
    assert abs(found["gate"]["training"]["auc"]["gain"]) < 0.01, "the same rows and the same seed"
    fourth = perform(train)
    assert states() == {1: "champion", 2: "shadow", 3: "retired", 4: "candidate"}
    assert fourth.result["version"] == 4

    importances = api.get("/v1/models/tier/importances").json
    assert importances["version"] == 1
    assert set(importances["permutation"]) == set(found["features"])
    assert max(each["auc_lost"] for each in importances["permutation"].values()) > 0
    assert api.get("/v1/models/tier/importances?version=9").status_code == 404
    evaluations = api.get("/v1/models/tier/evaluations?limit=3").json
    assert [each["version"] for each in evaluations["items"]] == [4, 3, 2]
    rest = api.get(f"/v1/models/tier/evaluations?limit=3&cursor={evaluations['next_cursor']}").json
    assert [each["version"] for each in rest["items"]] == [1]
    assert rest["items"][0]["baselines"]
    assert api.get("/v1/models/nothing/evaluations").status_code == 404


def test_two_trainings_at_once_leave_one_champion_and_one_shadow(clean_database: str):
    fill()
    perform(roll_up)
    ids = [submit(train) for _ in range(2)]
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(train, ids))
    assert [job(number).state for number in ids] == ["succeeded"] * 2
    assert sorted(states().values()) == ["champion", "shadow"]


def test_a_worker_killed_in_the_middle_of_training_leaves_nothing_and_is_followed(clean_database: str):
    fill()
    perform(roll_up)
    number = submit(train)
    pid = os.fork()
    if not pid:
        database.dispose()
        try:
            train(number)
        finally:
            os._exit(0)
    await_true(lambda: job(number).progress.get("done", 0) >= 1, "the training to be under way")
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    assert states() == {}
    assert job(number).state == "running"

    def given_back() -> bool:
        with session_scope() as session:
            sweep.release_lapsed(session, 5)
        return job(number).state == "queued"

    await_true(given_back, "the lease to lapse")
    train(number)
    assert job(number).state == "succeeded"
    assert states() == {1: "champion"}
    with session_scope() as session:
        assert model_files.refusal(session, models.get(session, "tier", 1)) is None
