"""Files of models that were tampered with: refused by worker, API and CLI, with an alert and a good stand-in."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from click.testing import CliRunner
from sqlalchemy import text

from app.cli.root import cli
from app.db import alerts, models
from app.db.session import session_scope
from app.errors import ArtifactRefused
from app.settings import Settings
from ml.features import NAMES
from tests.integration.conftest import Api
from tests.learning import by_feature, fill, perform, states, version
from tests.served import Served
from workers.predictions import predict

ROW = {"rows": [{"access_7d": 3.0}]}
TAMPERING = {
    "body": "body = set_byte(body, length(body) / 2, get_byte(body, length(body) / 2) # 1)",
    "first byte": "body = set_byte(body, 0, get_byte(body, 0) # 1)",
    "last byte": "body = set_byte(body, length(body) - 1, get_byte(body, length(body) - 1) # 128)",
    "longer": "body = body || '\\x00'",
    "empty": "body = ''",
    "sha": "sha256 = repeat('0', 64)",
    "hmac": "hmac = repeat('0', 64)",
    "another version's file": "(body, sha256, hmac) = (select b.body, b.sha256, b.hmac from model_artifact b"
    " join model_version v on v.id = b.model_version_id where v.version = 1 and b.format = 'packed')",
    "another version's body and sha": "(body, sha256) = (select b.body, b.sha256 from model_artifact b"
    " join model_version v on v.id = b.model_version_id where v.version = 1 and b.format = 'packed')",
    "its own baseline": "(body, sha256, hmac) = (select b.body, b.sha256, b.hmac from model_artifact b"
    " where b.model_version_id = a.model_version_id and b.format = 'baseline')",
}


def tamper(how: str, number: int, form: str = "packed") -> None:
    with session_scope() as session:
        changed = session.execute(
            text(
                f"update model_artifact a set {TAMPERING[how]} from model_version v where v.id = a.model_version_id"
                " and v.version = :number and a.format = :form"
            ),
            {"number": number, "form": form},
        )
        assert changed.rowcount == 1  # type: ignore[attr-defined]


def refused() -> dict[str, str]:
    """The alerts of refused files, by what they are about."""
    with session_scope() as session:
        return {row.subject: row.message for row in alerts.open_alerts(session) if row.kind == "model_refused"}


@pytest.fixture
def two(clean_database: str) -> None:
    """Two versions that have served, the second a champion with its baseline."""
    fill(20)
    version(by_feature("access_7d"), serve="first", baseline=by_feature("recency_s", -1.0))
    version(by_feature("decayed_7d"), serve="better", baseline=by_feature("access_total"))


@pytest.mark.parametrize("how", TAMPERING)
def test_the_last_good_champion_serves_in_place_of_a_tampered_one(two: None, make_api: Callable[..., Api], how: str):
    tamper(how, 2)
    done = perform(predict)
    assert (done.state, done.result["model_version"], done.result["serves"]) == ("succeeded", 1, "packed")
    assert done.result["refused"]
    assert set(refused()) == {"tier 2"}
    assert "version 1 serves instead" in refused()["tier 2"]
    assert "foretide models train tier" in refused()["tier 2"]
    reply = make_api().post("/v1/models/tier:predict", ROW)
    assert (reply.status_code, reply.json["version"], reply.json["serves"]) == (200, 1, "packed")
    assert reply.json["refused"] == done.result["refused"]
    assert states() == {1: "retired", 2: "champion"}, "nothing is retired by it"


def test_a_version_that_was_rolled_back_does_not_stand_in(two: None):
    version(by_feature("access_total"), serve="worse than it looked")
    with session_scope() as session:
        models.roll_back(session, "tier", "worse than it looked")
    tamper("body", 2)
    assert perform(predict).result["model_version"] == 1


def test_the_baseline_serves_where_no_champion_is_good(two: None, make_api: Callable[..., Api]):
    tamper("body", 1)
    tamper("sha", 2)
    done = perform(predict)
    assert (done.state, done.result["model_version"], done.result["serves"]) == ("succeeded", 2, "baseline")
    assert "the baseline of version 2 serves instead" in refused()["tier 2"]
    assert make_api().post("/v1/models/tier:predict", ROW).json["serves"] == "baseline"


def test_nothing_serves_where_nothing_is_good(two: None, make_api: Callable[..., Api]):
    for number, form in ((1, "packed"), (2, "packed"), (2, "baseline")):
        tamper("hmac", number, form)
    done = perform(predict)
    assert (done.state, done.reason) == ("failed", "artifact_refused")
    assert set(refused()) == {"tier 2"}, "the alert stands although the job has failed"
    reply = make_api().post("/v1/models/tier:predict", ROW)
    assert (reply.status_code, reply.json["type"].rpartition("/")[2]) == (422, "artifact-refused")


def test_a_model_that_scores_no_rows_says_so_and_raises_no_alert(two: None, make_api: Callable[..., Api]):
    with session_scope() as session:
        voters = models.add(session, "placement", algorithm="votes", features=["idle days"])
        models.promote(session, voters, "first")
    reply = make_api().post("/v1/models/placement:predict", ROW)
    assert (reply.status_code, refused()) == (404, {})


def test_the_alert_ends_when_the_champion_is_good_again(two: None):
    with session_scope() as session:
        kept = session.execute(text("select model_version_id, format, sha256 from model_artifact")).all()
    tamper("sha", 2)
    perform(predict)
    assert refused()
    with session_scope() as session:
        for row in kept:
            session.execute(
                text("update model_artifact set sha256 = :sha where model_version_id = :id and format = :form"),
                {"sha": row.sha256, "id": row.model_version_id, "form": row.format},
            )
    assert perform(predict).result["model_version"] == 2
    assert refused() == {}


@pytest.mark.parametrize("form", ["packed", "baseline"])
def test_a_refused_version_is_not_promoted_nor_rolled_back_to(two: None, make_api: Callable[..., Api], form: str):
    api = make_api()
    tamper("body", 1, form)
    tag = {"If-Match": api.get("/v1/models/tier").headers["ETag"]}
    for path in ("/v1/models/tier/versions/1:promote", "/v1/models/tier/versions/1:shadow", "/v1/models/tier:rollback"):
        reply = api.post(path, {"reason": "why"}, headers=tag)
        assert (reply.status_code, reply.json["type"].rpartition("/")[2]) == (
            422,
            "artifact-refused",
        )
    assert set(refused()) == {"tier 1"}
    assert states() == {1: "retired", 2: "champion"}


def test_a_shadow_whose_file_is_refused_does_not_score(two: None):
    number = version()
    with session_scope() as session:
        models.put_in_shadow(session, models.get(session, "tier", number), "try")
    tamper("body", number)
    assert perform(predict).state == "succeeded"
    assert set(refused()) == {"tier 3"}
    with session_scope() as session:
        assert session.scalar(text("select count(*) from shadow_score")) == 0


def test_a_file_signed_with_another_key_is_refused(two: None, configure: Callable[..., Settings]):
    configure(secret_key="another secret of at least thirty-two characters")
    done = perform(predict)
    assert (done.state, done.reason) == ("failed", "artifact_refused")
    assert states()[2] == "champion"


def test_a_champion_of_other_features_is_refused(clean_database: str):
    fill(20)
    form = by_feature()
    version(type(form)(form.kind, (*NAMES[:-1], "moon"), form.body, form.calibration), serve="first")
    done = perform(predict)
    assert done.reason == "artifact_refused"
    assert "trained on other features" in done.error["detail"]


def test_the_command_line_says_who_scored_instead(two: None, api: Api, configure: Callable[..., Settings], tmp_path):
    tamper("hmac", 2)
    served = Served("unused")
    try:
        configure(url=str(served.http.base_url), token=api.tokens["admin"])
        rows = tmp_path / "rows.ndjson"
        rows.write_text('{"access_7d": 3}\n')
        done = CliRunner().invoke(cli, ["predict", str(rows)])
        assert done.exit_code == 0, done.output
        assert "version 1 scored instead" in done.stderr
        tamper("hmac", 1)
        back = CliRunner().invoke(cli, ["models", "rollback", "tier", "--reason", "refused", "--yes"])
        assert isinstance(back.exception, ArtifactRefused)
        assert "FORETIDE_SECRET_KEY" in back.exception.detail
    finally:
        served.end()
