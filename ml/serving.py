"""Scores whatever model serves, with numpy alone: packed trees or a linear form, then the calibration (step: predict).

No learning library is imported here, so the API can score too; the packed forms equal sklearn's to 1e-6.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, Self, TypeVar

import numpy as np
import numpy.typing as npt
from numpy.lib.npyio import NpzFile

from app.errors import ArtifactRefused

Matrix = npt.NDArray[np.float32]
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Kind = Literal["forest", "boosted", "linear", "blend"]

TIERS = ("cold", "warm", "hot")
HOT, COLD = 0.7, 0.3  # display thresholds of source 004, not decisions
SMALLEST_P = 1e-6
BLOCK = 4096  # rows scored at once: the index arrays stay in the cache


@dataclass(frozen=True)
class Calibration:
    """Straight lines between knots: raw score x → probability p, with a 90 % band low … high."""

    x: Floats
    p: Floats
    low: Floats
    high: Floats

    def to_bytes(self) -> bytes:
        """An npz of plain arrays."""
        return pack({field.name: getattr(self, field.name) for field in fields(self)})

    @classmethod
    def from_bytes(cls, npz: bytes) -> Self:
        """Check the signature first (ml.artifacts). Raises ArtifactRefused for bytes that are not a calibration."""
        with unpacked(npz, "a calibration") as arrays:
            return cls(**{field.name: arrays[field.name] for field in fields(cls)})


@dataclass(frozen=True)
class Trees:
    """Every tree's nodes in one array, breadth first: the right child follows the left, leaves point to themselves.

    Thresholds are float32 rounded down, so that x ≤ threshold holds for a float32 x exactly when it did in float64.
    """

    feature: npt.NDArray[np.int32]
    """Column of the feature matrix; 0 in leaves."""
    threshold: npt.NDArray[np.float32]
    """Go right when x is greater; +inf in leaves."""
    left: npt.NDArray[np.int32]
    value: Floats
    """Probability (forest) or log-odds (boosted) of leaves."""
    roots: npt.NDArray[np.int32]
    depth: int
    base: float
    """Log-odds before the first boosted tree; 0 in a forest."""


@dataclass(frozen=True)
class Linear:
    """p = sigmoid(Σ weight · (ln(1 + x) − mean) ÷ scale + intercept) over some columns."""

    column: npt.NDArray[np.int32]
    mean: Floats
    scale: Floats
    weight: Floats
    intercept: float


@dataclass(frozen=True)
class Blend:
    """Several calibrated models over the same columns: the mean of their log-odds."""

    parts: tuple[Packed, ...]


Part = TypeVar("Part", Trees, Linear, Calibration)
Sums = Callable[[Trees, Matrix], Floats]
"""Of each row the sum of the leaves that it falls into, (rows × outputs)."""


@dataclass(frozen=True)
class Scores:
    """Of each row: the model's own score, its calibrated probability and the 90 % band of that."""

    p_raw: Floats
    p_hot: Floats
    p_low: Floats
    p_high: Floats


@dataclass(frozen=True)
class Packed:
    """A model that can serve: what it reads, its form and its calibration."""

    kind: Kind
    names: tuple[str, ...]
    """Columns of the matrix that it scores, in order."""
    body: Trees | Linear | Blend
    calibration: Calibration

    def raw(self, X: Matrix, sums: Sums | None = None) -> Floats:
        """The uncalibrated score of each row, in [0, 1]. X: (rows × names). sums: by other means than numpy's."""
        if isinstance(self.body, Linear):
            return _linear(self.body, X)
        if isinstance(self.body, Blend):
            return expit(np.mean([logit(part.score(X, sums).p_hot) for part in self.body.parts], axis=0))
        total = sums(self.body, X)[:, 0] if sums else _sums(self.body, X)
        if self.kind == "forest":
            return total / len(self.body.roots)
        return expit(total + self.body.base)

    def score(self, X: Matrix, sums: Sums | None = None) -> Scores:
        """Calibrated probabilities of each row. X: float32, (rows × names). sums: by other means than numpy's."""
        raw = self.raw(X, sums)
        curve = self.calibration
        p = np.interp(raw, curve.x, curve.p)
        low = np.minimum(np.interp(raw, curve.x, curve.low), p)
        high = np.maximum(np.interp(raw, curve.x, curve.high), p)
        return Scores(raw, p, low, high)

    def recalibrated(self, curve: Calibration) -> Self:
        """The same model with another calibration."""
        return replace(self, calibration=curve)

    def to_bytes(self) -> bytes:
        """An npz of plain arrays: nothing in it is ever unpickled."""
        arrays: dict[str, npt.ArrayLike] = {"kind": self.kind, "names": np.array(self.names)}
        if isinstance(self.body, Blend):
            blended = enumerate(part.to_bytes() for part in self.body.parts)
            arrays |= {f"part_{number}": np.frombuffer(npz, np.uint8) for number, npz in blended}
        else:
            arrays |= {"body_" + field.name: getattr(self.body, field.name) for field in fields(self.body)}
        curve = {"calibration_" + field.name: getattr(self.calibration, field.name) for field in fields(Calibration)}
        return pack(arrays | curve)

    @classmethod
    def from_bytes(cls, npz: bytes) -> Self:
        """Check the signature first (ml.artifacts). Raises ArtifactRefused for bytes that are not a packed model."""
        with unpacked(npz, "a packed model") as arrays:
            kind: Kind = arrays["kind"].item()
            body = _body(kind, arrays)
            return cls(kind, tuple(arrays["names"].tolist()), body, _restore(Calibration, arrays, "calibration_"))


def _body(kind: Kind, arrays: NpzFile) -> Trees | Linear | Blend:
    if kind == "blend":
        parts = sum(name.startswith("part_") for name in arrays.files)
        return Blend(tuple(Packed.from_bytes(arrays[f"part_{number}"].tobytes()) for number in range(parts)))
    return _restore(Linear, arrays, "body_") if kind == "linear" else _restore(Trees, arrays, "body_")


def tier_of(p_hot: Floats) -> npt.NDArray[np.int64]:
    """The label shown for each probability, as an index into TIERS: hot above 0.7, cold below 0.3, else warm."""
    return np.where(p_hot > HOT, 2, np.where(p_hot < COLD, 0, 1))


def _restore(form: type[Part], arrays: Mapping[str, Any], prefix: str) -> Part:
    values = {field.name: arrays[prefix + field.name] for field in fields(form)}
    return form(**{name: value.item() if value.ndim == 0 else value for name, value in values.items()})


def leaves(trees: Trees, X: Matrix) -> npt.NDArray[Any]:
    """The leaf that each row falls into, a column a tree: every row goes down every tree at once, a level a turn."""
    flat = np.ascontiguousarray(X, np.float32).ravel()
    row = (np.arange(len(X)) * X.shape[1])[:, None]
    node = np.broadcast_to(trees.roots, (len(X), len(trees.roots)))
    for _ in range(trees.depth):
        right = flat.take(row + trees.feature.take(node)) > trees.threshold.take(node)
        node = trees.left.take(node) + right
    return node


def _walk(trees: Trees, X: Matrix) -> Floats:
    return np.asarray(trees.value.take(leaves(trees, X)).sum(axis=1))


def _sums(trees: Trees, X: Matrix) -> Floats:
    blocks = [_walk(trees, X[at : at + BLOCK]) for at in range(0, len(X), BLOCK)]
    return np.concatenate(blocks) if blocks else np.zeros(0)


def _linear(form: Linear, X: Matrix) -> Floats:
    z = (np.log1p(X[:, form.column].astype(float)) - form.mean) / form.scale
    return expit(z @ form.weight + form.intercept)


def expit(z: Floats) -> Floats:
    """The probability of log-odds."""
    return np.asarray(1.0 / (1.0 + np.exp(-np.clip(z, -500, 500))))


def logit(p: Floats) -> Floats:
    """Log-odds, cut at one in a million."""
    clipped = np.clip(p, SMALLEST_P, 1 - SMALLEST_P)
    return np.asarray(np.log(clipped) - np.log1p(-clipped))


def pack(arrays: Mapping[str, npt.ArrayLike]) -> bytes:
    """Arrays by name as one npz file, in which nothing is ever unpickled."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **{name: np.asarray(value) for name, value in arrays.items()})
    return buffer.getvalue()


@contextmanager
def unpacked(npz: bytes, what: str) -> Iterator[NpzFile]:
    """The arrays by name; check the signature first. Raises ArtifactRefused where the bytes are not `what`."""
    try:
        with np.load(io.BytesIO(npz), allow_pickle=False) as arrays:
            yield arrays
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise ArtifactRefused(f"the bytes are not {what}") from error
