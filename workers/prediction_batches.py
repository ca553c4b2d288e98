"""The `predict-batch` task: scores all objects, those of a prefix, or rows that were sent (step: predict).

It works page by page: memory is that of one, however many objects there are.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

import numpy as np

from app.db import accesses, batch_pages, objects, observations
from app.db import features as stored_features
from app.db.session import session_scope
from app.db.tables import Json
from app.errors import ArtifactRefused, NotFound
from app.queue import TaskName
from ml.features import NAMES, Matrix, snapshot
from ml.serving import TIERS, Packed, tier_of
from workers import features, general_models, models, scoring
from workers.base import JobContext, job_task

PAGE = 10_000


@job_task(TaskName.PREDICT_BATCH)
def predict_batch(job: JobContext) -> Json:
    """Writes pages of NDJSON, a line an object or row; the result says how many there are."""
    if "model" in job.args:
        return general_models.predict_batch(job)
    with session_scope() as session:
        serving = models.load_serving(session)
    if serving is None:
        raise NotFound("no version of model tier serves yet; train it: foretide models train")
    if isinstance(serving, ArtifactRefused):
        raise serving
    page = lines = 0
    for page, (keys, X) in enumerate(_sent(job) if job.args.get("rows") else _objects(job), 1):
        scored = _lines(serving.opened, keys, X)
        with job.saving() as session:
            batch_pages.put(session, job.id, page, scored)
        lines += len(scored)
    return {
        "model": serving.version.name,
        "version": serving.version.version,
        "lines": lines,
        "pages": page,
        "page": f"/v1/models/{serving.version.name}/batches/{job.id}/pages/1" if page else None,
        **({"refused": serving.refused, "serves": serving.form} if serving.refused else {}),
    }


def _objects(job: JobContext) -> Iterator[tuple[list[str], Matrix]]:
    """Keys and features of so many objects at a time, as of one moment. Prefixes' heat is that of the last pass."""
    moment, prefix = features.as_of(job), job.args.get("prefix") or ""
    now = accesses.microseconds(moment)
    with session_scope() as session:
        total = objects.count_keys(session, prefix)
    done = after = 0
    while True:
        with session_scope() as session:
            keys = objects.keys_after(session, prefix, after, PAGE)
            if not keys:
                return
            ids = list(keys)
            observed = observations.observe(session, moment, ids)
            heat = stored_features.stored(session, observed.ids, features.PREFIX_HEAT)
        X = snapshot(observed.history, observed.catalogue, now, np.asarray(heat))
        yield [keys[number] for number in observed.ids.tolist()], X
        done, after = done + len(ids), ids[-1]
        job.progress(min(done, total), total, "objects")


def _sent(job: JobContext) -> Iterator[tuple[list[str], Matrix]]:
    """Numbers of lines and features of the rows that were sent and checked by the API."""
    with session_scope() as session:
        sent = batch_pages.sent(session, job.id)
    for start in range(0, len(sent), PAGE):
        rows = [json.loads(line) for line in sent[start : start + PAGE]]
        X = np.array([[row.get(name, 0.0) for name in NAMES] for row in rows], np.float32)
        yield [str(start + number) for number in range(1, len(rows) + 1)], X
        job.progress(min(start + PAGE, len(sent)), len(sent), "rows")


def _lines(packed: Packed, keys: list[str], X: Matrix) -> list[bytes]:
    scores = scoring.score(packed, X)
    columns = zip(keys, scores.p_hot, scores.p_low, scores.p_high, tier_of(scores.p_hot), strict=True)
    return [
        json.dumps(
            {
                "key": key,
                "p_hot": round(float(p), 6),
                "p_low": round(float(low), 6),
                "p_high": round(float(high), 6),
                "tier": TIERS[tier],
            }
        ).encode()
        for key, p, low, high, tier in columns
    ]
