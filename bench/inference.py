"""One prediction by the packed forest with numpy alone, against scikit-learn's forest itself."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from bench.result import Result, more, per_second
from bench.rig import Rig
from ml.packing import pack_forest
from ml.serving import Calibration, Packed

ROWS, TRAIN, FEATURES = 4096, 4000, 20
SECONDS = 2.0
BAR = 200.0


def measure(rig: Rig) -> Iterator[Result]:
    """Rows scored a second."""
    from sklearn.ensemble import RandomForestClassifier

    rng = np.random.default_rng(1)
    X = rng.gamma(1.0, 10.0, (TRAIN, FEATURES)).astype(np.float32)
    y = X[:, 0] + X[:, 1] * rng.random(TRAIN) > 15
    forest = RandomForestClassifier(100, max_depth=10, min_samples_leaf=5, n_jobs=1, random_state=1).fit(X, y)
    columns = range(FEATURES)
    identity = Calibration(*(np.array([0.0, 1.0]) for _ in range(4)))
    packed = Packed("forest", tuple(map(str, columns)), pack_forest(forest, columns), identity)
    batch = rng.gamma(1.0, 10.0, (ROWS, FEATURES)).astype(np.float32)
    assert np.allclose(packed.raw(batch), forest.predict_proba(batch)[:, 1], atol=1e-6)
    rig.tell(f"inference: {ROWS} packed scores equal scikit-learn's to 1e-6")
    one = batch[:1]
    ours = per_second(lambda: len(packed.raw(one)), SECONDS)
    peer = per_second(lambda: len(forest.predict_proba(one)), SECONDS)
    yield more("inference", ours, peer, "rows/s", BAR)
