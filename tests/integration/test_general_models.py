"""Users' models through HTTP and a worker's tasks: trained on sent events, asked, exported, deleted, never harmful."""

from __future__ import annotations

import gzip
import json
import resource
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from sqlalchemy import text

from app.api.general_models import KEPT, cache
from app.db import jobs, models
from app.db.session import session_scope
from app.db.tables import Job, ModelVersion
from app.domain.roles import Role
from app.settings import Settings
from ml.features import NAMES
from tests.integration.conftest import Api
from tests.learning import version
from workers.models import train
from workers.prediction_batches import predict_batch

RECIPE = {"algorithm": "random_forest", "features": ["cpu", "memory"], "target": "latency"}
NDJSON = {"Content-Type": "application/x-ndjson"}


def events(n: int, seed: int = 1) -> list[dict[str, Any]]:
    rng = np.random.default_rng(seed)
    rows = rng.uniform(0, 100, (n, 2)).tolist()
    return [
        {"cpu": cpu, "memory": memory, "latency": 3 * cpu + memory, "slow": cpu > 50, "at": 1e9 + number}
        for number, (cpu, memory) in enumerate(rows)
    ]


def await_fit() -> None:
    """Until the main thread has begun a training: the timer that stops it runs."""
    while not signal.getitimer(signal.ITIMER_REAL)[0]:
        time.sleep(0.005)


def lines(found: list[Any]) -> bytes:
    return b"\n".join(json.dumps(each).encode() for each in found)


def worked(reply: Any, task: Any = train) -> Job:
    """The job of a 202, worked on as a worker does."""
    assert reply.status_code == 202, reply.get_json()
    task(reply.get_json()["id"])
    with session_scope() as session:
        job = jobs.get(session, reply.get_json()["id"])
        session.expunge(job)
    return job


def learned(api: Api, name: str = "latency", n: int = 200, *, serve: bool = True, **recipe: Any) -> dict[str, Any]:
    """What the training tells. serve: let the version serve where it does not by itself."""
    job = worked(api.post(f"/v1/models/{name}:train", {**RECIPE, "events": events(n), **recipe}))
    assert job.state == "succeeded", job.error
    result = dict(job.result or {})
    if serve and result["state"] != "champion":
        tag = {"If-Match": api.get(f"/v1/models/{name}").headers["ETag"]}
        path = f"/v1/models/{name}/versions/{result['version']}:promote"
        assert api.post(path, {"reason": "it is newer"}, headers=tag).status_code == 200
    return result


def test_a_forest_is_trained_asked_and_listed(api: Api):
    result = learned(api, time="at")
    assert (result["version"], result["state"], result["task"]) == (1, "champion", "regression")
    assert result["metrics"]["rmse"] < result["baselines"]["mean"]["rmse"]
    rows = [{"cpu": 10, "memory": 10}, {"cpu": "90", "memory": 90, "other": "x"}, {"cpu": None}]
    reply = api.post("/v1/models/latency:predict", {"rows": rows}, role=Role.VIEWER).get_json()
    low, high, _ = (each["prediction"] for each in reply["predictions"])
    assert low == pytest.approx(40, abs=20)
    assert high == pytest.approx(360, abs=20)
    assert reply["filled"] == ["cpu", "memory"]
    found = {each["name"]: each for each in api.get("/v1/models").get_json()["items"]}["latency"]
    assert (found["algorithm"], found["rows"]["train"], found["data"]["from"][:10]) == (
        "random_forest", 160, "2001-09-09",
    )  # fmt: skip
    told = api.get("/v1/models/latency/importances").get_json()
    assert told["built_in"]["cpu"] > told["built_in"]["memory"]
    assert told["permutation"]["cpu"]["loss_added"] > 0
    assert learned(api)["version"] == 2
    assert [v["state"] for v in api.get("/v1/models/latency/versions").get_json()["items"]] == ["champion", "retired"]


def test_events_as_ndjson_with_bad_ones_among_them(api: Api):
    sent = [*events(100), {"cpu": "fast", "memory": 1, "latency": 1}, 7, {"memory": 1, "latency": 5}]
    body = gzip.compress(lines(sent) + b"\n{broken\n\n")
    query = "algorithm=linear_regression&features=cpu,memory&target=latency&seed=5"
    reply = api.post(f"/v1/models/line:train?{query}", data=body, headers={**NDJSON, "Content-Encoding": "gzip"})
    job = worked(reply)
    assert (job.state, job.result["rows"]) == (
        "succeeded", {"train": 81, "test": 20, "events": 101, "left_out": 3},
    ), job.error  # fmt: skip
    assert [error["pointer"] for error in job.result["errors"]] == ["/events/100/cpu", "/events/101", "/events/103"]
    assert job.progress["done"] == job.progress["total"]
    with session_scope() as session:
        params = session.scalar(text("select params from model_version where name = 'line'"))
    assert (params["seed"], params["scale"], params["missing"]) == (5, True, "mean")


def test_classes_clusters_and_outliers(api: Api):
    assert learned(api, "slow", target="slow")["task"] == "classification"
    told = api.post("/v1/models/slow:predict", {"rows": [{"cpu": 99, "memory": 50}]}).get_json()["predictions"][0]
    assert told["prediction"] is True
    assert told["probabilities"]["true"] > 0.9
    clusters = learned(api, "groups", algorithm="kmeans", target=None, params={"n_clusters": 4})
    assert (len(clusters["centers"]), len(clusters["labels"]), sum(clusters["sizes"])) == (4, 200, 200)
    assert clusters["metrics"]["inertia"] > 0
    odd = learned(api, "odd", algorithm="isolation_forest", target=None)
    assert set(odd["labels"]) == {-1, 1}
    told = api.post("/v1/models/odd:predict", {"rows": [{"cpu": 1e6, "memory": -1e6}]}).get_json()["predictions"]
    assert told[0]["prediction"] == -1


def test_batches_are_scored_by_compiled_loops_and_equal_the_api(api: Api):
    learned(api)
    rows = [*events(25_000, seed=9), {"cpu": "x"}]
    job = worked(api.post("/v1/models/latency:predict-batch", data=lines(rows), headers=NDJSON), predict_batch)
    assert (job.state, job.result["lines"], job.result["failed"], job.result["pages"]) == ("succeeded", 25_001, 1, 3)
    pages = [
        gzip.decompress(api.get(f"/v1/models/latency/batches/{job.id}/pages/{number}").data).splitlines()
        for number in (1, 2, 3)
    ]
    scored = [json.loads(line) for page in pages for line in page]
    asked = api.post(
        "/v1/models/latency:predict", {"rows": [{n: r[n] for n in ("cpu", "memory")} for r in rows[:1000]]}
    ).get_json()["predictions"]
    assert [each["prediction"] for each in scored[:1000]] == pytest.approx([each["prediction"] for each in asked])
    assert scored[-1]["error"]["pointer"] == "/cpu"
    assert api.get(f"/v1/models/tier/batches/{job.id}/pages/1").status_code == 404
    small = api.post("/v1/models/latency:predict-batch", {"rows": [{"cpu": 1, "memory": 1}]})
    assert worked(small, predict_batch).result["lines"] == 1


def test_export_and_deletion(api: Api):
    import onnxruntime

    learned(api)
    learned(api)
    body = api.get("/v1/models/latency/versions/2/artifact?format=onnx", role=Role.VIEWER)
    assert body.status_code == 200
    found = onnxruntime.InferenceSession(body.data).run(["prediction"], {"X": np.array([[10, 20]], np.float32)})
    told = api.post("/v1/models/latency:predict", {"rows": [{"cpu": 10, "memory": 20}]}).get_json()["predictions"]
    assert found[0][0, 0] == pytest.approx(told[0]["prediction"], rel=1e-5)
    assert api.get("/v1/models/latency/versions/2/artifact?format=packed").data[:2] == b"PK"
    learned(api, "groups", algorithm="kmeans", target=None)
    assert api.get("/v1/models/groups/versions/1/artifact").status_code == 422

    assert api("DELETE", "/v1/models/latency/versions/2").status_code == 409
    assert api("DELETE", "/v1/models/latency/versions/1", role=Role.VIEWER).status_code == 403
    assert api("DELETE", "/v1/models/latency/versions/1").status_code == 204
    assert api.get("/v1/models/latency/versions/1").status_code == 404
    assert api("DELETE", "/v1/models/latency").status_code == 204
    assert api.post("/v1/models/latency:predict", {"rows": [{"cpu": 1}]}).status_code == 404
    assert api("DELETE", "/v1/models/latency").status_code == 404
    assert api("DELETE", "/v1/models/tier").status_code == 409
    assert [a["action"] for a in api.get("/v1/audit").get_json()["items"]].count("model.delete") == 2


def test_what_is_deleted_leaves_the_others_their_life(api: Api):
    for _ in range(3):
        learned(api)
    read = api.get("/v1/models/latency").headers["ETag"]
    assert api("DELETE", "/v1/models/latency/versions/2").status_code == 204
    path, why = "/v1/models/latency:rollback", {"reason": "it was better"}
    assert api.post(path, why, headers={"If-Match": read}).status_code == 412
    assert learned(api)["version"] == 4
    assert api("DELETE", "/v1/models/latency/versions/4").status_code == 409
    for back in (3, 1):
        tag = api.get("/v1/models/latency").headers["ETag"]
        assert api.post(path, why, headers={"If-Match": tag}).get_json()["version"] == back
    assert api("DELETE", "/v1/models/latency/versions/4").status_code == 204
    assert api.post(path, why, headers={"If-Match": read}).status_code == 409


def test_a_number_and_an_etag_of_a_deleted_version_are_never_given_again(api: Api):
    assert [learned(api)["version"] for _ in range(2)] == [1, 2]
    read = api.get("/v1/models/latency").headers["ETag"]
    path, why = "/v1/models/latency:rollback", {"reason": "it was better"}
    assert api.post(path, why, headers={"If-Match": read}).status_code == 200
    assert api("DELETE", "/v1/models/latency/versions/2").status_code == 204
    assert learned(api)["version"] == 3
    tags = {read, api.get("/v1/models/latency").headers["ETag"]}
    assert api("DELETE", "/v1/models/latency").status_code == 204
    assert [learned(api)["version"] for _ in range(2)] == [4, 5]
    assert api.get("/v1/models/latency").headers["ETag"] not in tags
    assert api.get("/v1/models/latency/versions/1").status_code == 404


def test_a_model_of_tiers_is_exported_too(api: Api):
    import onnxruntime

    number = version(serve="nothing served before it")
    body = api.get(f"/v1/models/tier/versions/{number}/artifact", role=Role.VIEWER)
    session = onnxruntime.InferenceSession(body.data)
    X = np.ones((1, session.get_inputs()[0].shape[1]), np.float32)
    rows = [dict.fromkeys(NAMES, 1.0)]
    told = api.post("/v1/models/tier:predict", {"rows": rows}).get_json()["predictions"][0]
    raw, p = session.run(["p_raw", "p_hot"], {"X": X})
    assert (raw[0, 0], p[0, 0]) == pytest.approx((told["p_raw"], told["p_hot"]), abs=1e-5)
    assert api.get("/v1/models/placement/versions/1/artifact").status_code == 404


@pytest.mark.parametrize(
    ("changed", "status", "pointer"),
    [
        ({"algorithm": "magic"}, 422, "/algorithm"),
        ({"events": []}, 422, "/events"),
        ({"params": {"max_depth": 99}}, 422, "/params/max_depth"),
        ({"params": {"max_depth": "5"}}, 422, "/params/max_depth"),
        ({"features": ["latency", "cpu"]}, 422, "/target"),
        ({"target": None}, 422, "/target"),
        ({"seed": -1}, 422, "/seed"),
        ({"more": 1}, 422, "/more"),
    ],
)
def test_what_a_recipe_may_not_be(api: Api, changed: dict[str, Any], status: int, pointer: str):
    reply = api.post("/v1/models/latency:train", {**RECIPE, "events": events(20), **changed})
    assert (reply.status_code, [error["pointer"] for error in reply.get_json()["errors"]]) == (status, [pointer])


def test_names_of_foretides_own_roles_and_sizes(api: Api):
    mistaken = api.post("/v1/models/tier:train?algorithm=kmeans&features=a", data=b'{"a":1}', headers=NDJSON)
    assert (mistaken.status_code, "choose another name" in mistaken.get_json()["detail"]) == (409, True)
    assert api.post("/v1/models/tier:train", {**RECIPE, "events": events(9)}).status_code == 409
    assert api.post("/v1/models/placement:train", data=b"x").status_code == 415
    assert api.post("/v1/models/latency:train", {}).status_code == 404
    assert api.post("/v1/models/latency:train", {**RECIPE, "events": events(9)}, role=Role.VIEWER).status_code == 403
    assert api.post("/v1/models/latency:predict", {"rows": [{"cpu": 1}] * 1001}).status_code == 413
    assert api.post("/v1/models/latency:train?seed=3", {**RECIPE, "events": events(9)}).status_code == 422
    assert api.post("/v1/models/x:train?algorithm=kmeans&features=a", data=b"\n\n", headers=NDJSON).status_code == 400
    many = b'{"a":1}\n' * 1_000_001
    reply = api.post("/v1/models/x:train?algorithm=kmeans&features=a", data=many, headers=NDJSON)
    assert (reply.status_code, "at most 1000000 events" in reply.get_json()["detail"]) == (413, True)
    wide = ",".join(f"f{number}" for number in range(200))
    reply = api.post(
        f"/v1/models/x:train?algorithm=kmeans&features={wide}", data=b'{"a":1}\n' * 100_001, headers=NDJSON
    )
    assert reply.status_code == 413


@pytest.mark.parametrize(
    ("changed", "reason", "said"),
    [
        ({"events": [{"cpu": 1, "memory": 1, "latency": "slow"}] * 30}, "not_enough_data", "nothing to tell apart"),
        ({"events": [{"cpu": "a", "memory": 1, "latency": 1}] * 30}, "not_enough_data", "/events/0/cpu"),
        ({"events": [{"cpu": 1, "latency": 1}] * 30}, "invalid", "no event has the feature memory"),
    ],
)
def test_trainings_that_cannot_be_fail_with_a_reason(api: Api, changed: dict[str, Any], reason: str, said: str):
    job = worked(api.post("/v1/models/latency:train", {**RECIPE, **changed}))
    assert (job.state, job.reason, said in job.error["detail"]) == ("failed", reason, True), job.error


def test_values_that_are_no_numbers_are_pointed_at(api: Api):
    learned(api)
    reply = api.post("/v1/models/latency:predict", {"rows": [{"cpu": 1}, {"cpu": "fast"}]})
    assert (reply.status_code, reply.get_json()["errors"][0]["pointer"]) == (422, "/rows/1/cpu")
    reply = api.post("/v1/models/latency:predict", data=b'{"rows":[{"cpu":NaN}]}', headers={
        "Content-Type": "application/json"
    })  # fmt: skip
    assert reply.status_code == 400


def test_a_later_version_serves_only_where_it_is_better_on_the_same_rows(api: Api):
    first = learned(api, time="at", params={"n_estimators": 1, "max_depth": 1})
    assert (first["state"], first["beats_baseline"]) == ("champion", True)
    better = learned(api, time="at", serve=False)
    assert better["state"] == "champion"
    assert "better than version 1: rmse" in better["reason"]
    same = learned(api, time="at", serve=False)
    assert same["state"] == "candidate"
    assert "foretide models promote latency 3" in same["reason"]
    gate = api.get("/v1/models/latency/versions/3").get_json()["gate"]["training"]
    assert (gate["n"], gate["rmse"]["gain"]) == (40, 0)
    other = learned(api, time="at", target="slow", serve=False)
    assert "cannot be compared with version 2" in other["reason"]


def test_a_version_that_began_to_serve_meanwhile_is_not_replaced_unseen(api: Api):
    first = learned(api)
    slow = {**RECIPE, "events": events(200), "params": {"n_estimators": 500}}
    number = api.post("/v1/models/latency:train", slow).get_json()["id"]

    def meanwhile() -> None:
        """As soon as it has begun to learn: it is compared with version 1."""
        await_fit()
        with session_scope() as session:
            version = models.get(session, "latency", first["version"])
            copied = {c.key: getattr(version, c.key) for c in ModelVersion.__table__.columns}
            for own in ("id", "name", "version", "state", "revision", "promoted_at"):
                del copied[own]
            models.promote(session, models.add(session, "latency", **copied), "it is newer")

    with ThreadPoolExecutor(1) as other:
        promoting = other.submit(meanwhile)
        train(number)
        promoting.result()
    with session_scope() as session:
        result = jobs.get(session, number).result or {}
    assert (result["version"], result["state"]) == (3, "candidate")
    assert "version 2 began to serve while this one was trained" in result["reason"]
    assert "foretide models promote latency 3" in result["reason"]


def test_what_a_model_is_worth_is_told_wherever_it_is_asked(api: Api):
    rows = {"rows": [{"cpu": 1, "memory": 1}]}
    few = learned(api, "few", n=50)
    told = api.post("/v1/models/few:predict", rows).get_json()
    assert (few["state"], told["beats_baseline"], told["held_out"]) == ("champion", None, 10)
    assert "20 rows are the least to judge by; the first version serves all the same" in few["reason"]
    assert few["metrics"]["gain"]["over"] in ("mean", "median")
    drawn = np.random.default_rng(4).normal(size=400).tolist()
    noise = [{**event, "latency": value} for event, value in zip(events(400), drawn, strict=True)]
    assert learned(api, "noise", events=noise)["beats_baseline"] is not True
    assert "not known to be better" in learned(api, "noise", events=noise, serve=False)["reason"]
    assert learned(api, "odd", algorithm="isolation_forest", target=None)["beats_baseline"] is None
    assert learned(api, "groups", algorithm="kmeans", target=None)["beats_baseline"] is True


def test_a_tampered_file_does_not_serve(api: Api):
    learned(api)
    with session_scope() as session:
        session.execute(text("update model_artifact set body = body || '\\x00'"))
    reply = api.post("/v1/models/latency:predict", {"rows": [{"cpu": 1, "memory": 1}]})
    assert (reply.status_code, reply.get_json()["type"]) == (422, "/problems/artifact-refused")


def test_a_users_route_asks_no_model_of_foretides_own(api: Api):
    version(serve="nothing served before it")
    reply = api.post("/pipeline/ml/predict", {"model_name": "tier", "features": [[1.0]]}, role=Role.VIEWER)
    assert (reply.status_code, api.get("/v1/alerts").get_json()["items"]) == (404, [])


def test_more_models_than_are_kept_open_all_answer(api: Api):
    names = [f"m{number}" for number in range(KEPT + 2)]
    for name in names:
        learned(api, name, algorithm="linear_regression")
    for name in names + names[::-1]:
        assert api.post(f"/v1/models/{name}:predict", {"rows": [{"cpu": 1, "memory": 1}]}).status_code == 200
    assert (len(cache._kept), list(cache._kept)[-2:]) == (KEPT, ["m1", "m0"])


def test_an_upload_sent_twice_with_one_key_starts_one_training(api: Api):
    query = "algorithm=kmeans&features=cpu"

    def send(body: bytes) -> Any:
        return api.post(f"/v1/models/k:train?{query}", data=body, headers={**NDJSON, "Idempotency-Key": "k"})

    first, again = send(lines(events(20))), send(lines(events(20)))
    assert first.get_json()["id"] == again.get_json()["id"]
    assert send(lines(events(21))).status_code == 422


def test_source_003s_own_routes(api: Api):
    sent = {"model_name": "latency_predictor", "model_type": "random_forest", "feature_keys": ["cpu", "memory"]}
    bare = api.post("/pipeline/ml/train", sent)
    assert (bare.status_code, bare.get_json()["errors"][0]["pointer"]) == (422, "/events")
    job = worked(api.post("/pipeline/ml/train", {**sent, "target_key": "latency", "events": events(200)}))
    assert (job.state, job.result["name"]) == ("succeeded", "latency_predictor")
    large = {**sent, "model_name": "large", "target_key": "latency", "events": events(20_000)}
    assert len(json.dumps(large)) > 2**20
    assert api.post("/pipeline/ml/train", large).status_code == 202
    rows = {"model_name": "latency_predictor", "features": [[50.0, 60.0], [55.0, 65.0]]}
    told = api.post("/pipeline/ml/predict", rows, role=Role.VIEWER).get_json()
    assert told["model_name"] == "latency_predictor"
    assert told["predictions"] == pytest.approx([210, 230], abs=25)
    assert api.get("/pipeline/ml/models").get_json() == {"models": ["latency_predictor"], "count": 1}
    found = api.get("/pipeline/ml/importances/latency_predictor").get_json()
    assert found["model_name"] == "latency_predictor"
    assert sum(found["importances"].values()) == pytest.approx(1)
    wrong = api.post("/pipeline/ml/predict", {**rows, "features": [[1.0, 2.0], [1.0]]})
    assert wrong.get_json()["errors"][0]["pointer"] == "/features/1"
    text = api.post("/pipeline/ml/predict", {**rows, "features": [[1.0, 2.0], [1.0, "fast"]]})
    assert (text.status_code, text.get_json()["errors"][0]["pointer"]) == (422, "/features/1/1")
    for changed, pointer in (
        ({"target_key": "cpu"}, "/target_key"),
        ({"feature_keys": ["cpu", "cpu"]}, "/feature_keys"),
        ({"target_key": "latency", "time_key": "cpu"}, "/time_key"),
        ({"model_type": "kmeans", "target_key": "latency"}, "/target_key"),
        ({"model_type": "magic"}, "/model_type"),
    ):
        wrong = api.post("/pipeline/ml/train", {"target_key": "latency", **sent, "events": events(5), **changed})
        assert (wrong.status_code, wrong.get_json()["errors"][0]["pointer"]) == (422, pointer), changed
    assert api.post("/pipeline/ml/predict", {**rows, "model_name": "none"}).status_code == 404
    assert (
        api.post(
            "/pipeline/ml/train", {**sent, "model_name": "tier", "target_key": "latency", "events": events(5)}
        ).status_code
        == 409
    )


def test_clustering_is_cancelled_in_the_midst_of_its_one_long_fit(api: Api, configure: Callable[..., Settings]):
    configure(lease_renew_s=0.1)
    rng = np.random.default_rng(3)
    body = b"".join(b'{"a":%.4f,"b":%.4f}\n' % (a, b) for a, b in rng.normal(size=(40_000, 2)).tolist())
    query = "algorithm=kmeans&features=a,b&params=n_clusters=200,n_init=20"
    number = api.post(f"/v1/models/many:train?{query}", data=body, headers=NDJSON).get_json()["id"]
    asked: list[float] = []

    def cancel() -> None:
        """As soon as the events are read: the fit alone takes half a minute."""
        await_fit()
        asked.append(time.monotonic())
        assert api.post(f"/v1/jobs/{number}:cancel").status_code < 300

    with ThreadPoolExecutor(1) as other:
        cancelling = other.submit(cancel)
        train(number)
        cancelling.result()
    with session_scope() as session:
        assert jobs.get(session, number).state == "cancelled"
    assert time.monotonic() - asked[0] < 5
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)


def test_a_million_events_are_learned_in_bounded_memory_with_progress(api: Api):
    rng = np.random.default_rng(2)
    drawn = rng.integers(0, 1000, (20_000, 2)).tolist()
    block = b"".join(b'{"cpu":%d,"memory":%d,"latency":%d}\n' % (a, b, 2 * a + b) for a, b in drawn)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    query = "algorithm=random_forest&features=cpu,memory&target=latency&params=n_estimators=5,max_depth=6"
    job = worked(api.post(f"/v1/models/big:train?{query}", data=block * 50, headers=NDJSON))
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    assert (job.state, job.result["rows"]["events"]) == ("succeeded", 1_000_000), job.error
    assert job.progress == {"done": 100, "total": 100, "unit": "parts"}
    assert grown < 700, f"{grown:.0f} MiB"
