"""Scores many rows by the compiled loops, and few by numpy, before which no compiler need be loaded (step: predict)."""

from __future__ import annotations

from ml.serving import Floats, Matrix, Packed, Scores, Sums

LEAST_ROWS = 10_000
"""Numpy scores as many in 0.2 s; a worker's child loads the loops for the first time in twice that."""


def score(packed: Packed, X: Matrix) -> Scores:
    """Calibrated probabilities of each row. X: float32, (rows × names)."""
    return packed.score(X, _sums(X))


def raw(packed: Packed, X: Matrix) -> Floats:
    """The uncalibrated score of each row, in [0, 1]."""
    return packed.raw(X, _sums(X))


def _sums(X: Matrix) -> Sums | None:
    if len(X) < LEAST_ROWS:
        return None
    from ml.serving_jit import leaf_sums

    return leaf_sums
