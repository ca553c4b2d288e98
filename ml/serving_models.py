"""Scores the models that users train over their own events, with numpy alone (step: predict).

The packed forms equal the fitted estimators to 1e-6: a row's features by name become numbers, what is missing is
filled in, then standardized where the model was, then scored. No learning library is imported here.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np

from app.errors import ArtifactRefused
from ml.serving import Floats, Matrix, Sums, Trees, leaves, pack, unpacked

BLOCK = 4096
MOST = 1e30
"""Larger numbers are refused: trees compare as float32."""
Label = str | float | bool


@dataclass(frozen=True)
class Forest:
    """Means over trees: of the value, or of each class's share."""

    trees: Trees


@dataclass(frozen=True)
class Straight:
    """Σ weight · x + intercept."""

    weight: Floats
    intercept: float


@dataclass(frozen=True)
class Centers:
    """The nearest of these is a row's cluster: (clusters × features)."""

    centers: Floats


@dataclass(frozen=True)
class Isolation:
    """Paths' lengths over trees; a row whose 2^(−mean ÷ norm) is above −offset is an outlier."""

    trees: Trees
    norm: float
    offset: float


Body = Forest | Straight | Centers | Isolation
BODIES: Mapping[str, type[Body]] = {
    "random_forest": Forest,
    "linear_regression": Straight,
    "kmeans": Centers,
    "isolation_forest": Isolation,
}


@dataclass(frozen=True)
class Predicted:
    """Of each row: what the model says, and the number that it says it by."""

    value: Floats
    """The number, the label's index, the cluster, or −1 for an outlier and 1 for others."""
    detail: Floats
    """(rows × n): classes' probabilities, the distance from the center, or the outlier score; else n is 0."""


@dataclass(frozen=True)
class General:
    """A trained model as it serves."""

    algorithm: str
    names: tuple[str, ...]
    """Features in the order of the matrix."""
    labels: tuple[Label, ...]
    """Of classes; empty where the target is a number or there is none."""
    fill: Floats
    """What a missing feature counts as."""
    mean: Floats
    scale: Floats
    """Standardized as (x − mean) ÷ scale; 0 and 1 where the model was not."""
    body: Body

    def matrix(self, rows: Sequence[Mapping[str, Any]]) -> Floats:
        """The rows' features as numbers, not a number where they are missing. Raises BadCell for one that is none."""
        found = np.empty((len(rows), len(self.names)))
        for number, row in enumerate(rows):
            for column, name in enumerate(self.names):
                try:
                    found[number, column] = to_number(row.get(name))
                except ValueError as error:
                    raise BadCell(number, name, str(error)) from error
        return found

    def predict(self, X: Floats, sums: Sums | None = None) -> Predicted:
        """X: float64 (rows × names). sums: of leaves, by other means than numpy's."""
        parts = [self._block(X[at : at + BLOCK], sums or _sums) for at in range(0, len(X), BLOCK)]
        if not parts:
            return Predicted(np.zeros(0), np.zeros((0, 0)))
        return Predicted(np.concatenate([p.value for p in parts]), np.concatenate([p.detail for p in parts]))

    def _block(self, X: Floats, sums: Sums) -> Predicted:
        Z = (np.where(np.isnan(X), self.fill, X) - self.mean) / self.scale
        nothing = np.zeros((len(X), 0))
        match self.body:
            case Straight(weight, intercept):
                return Predicted(np.asarray(Z @ weight + intercept), nothing)
            case Centers(centers):
                each = (((Z - center) ** 2).sum(axis=1) for center in centers)  # at once they would fill the memory
                distance = np.sqrt(np.column_stack(tuple(each)))
                return Predicted(distance.argmin(axis=1).astype(float), distance.min(axis=1)[:, None])
            case Isolation(trees, norm, offset):
                share = sums(trees, Z.astype(np.float32))[:, 0] / norm if norm else np.ones(len(Z))
                score = -(2.0**-share) - offset
                return Predicted(np.where(score < 0, -1.0, 1.0), score[:, None])
            case Forest(trees):
                mean = sums(trees, Z.astype(np.float32)) / len(trees.roots)
                if not self.labels:
                    return Predicted(mean[:, 0], nothing)
                return Predicted(mean.argmax(axis=1).astype(float), mean)

    def told(self, found: Predicted) -> list[dict[str, Any]]:
        """Predictions as users see them."""
        values = found.value.tolist()
        if isinstance(self.body, Straight) or not found.detail.shape[1]:
            return [{"prediction": value} for value in values]
        if isinstance(self.body, Forest):
            names = [label_text(label) for label in self.labels]
            return [
                {"prediction": self.labels[int(value)], "probabilities": dict(zip(names, p, strict=True))}
                for value, p in zip(values, found.detail.tolist(), strict=True)
            ]
        what = "distance" if isinstance(self.body, Centers) else "score"
        details = found.detail[:, 0].tolist()
        return [{"prediction": int(v), what: d} for v, d in zip(values, details, strict=True)]

    def to_bytes(self) -> bytes:
        """An npz of plain arrays: nothing in it is ever unpickled."""
        own = {name: getattr(self, name) for name in ("algorithm", "fill", "mean", "scale")}
        texts = {"names": json.dumps(self.names), "labels": json.dumps(self.labels)}
        return pack({**own, **texts, **_flat(self.body)})

    @classmethod
    def from_bytes(cls, npz: bytes) -> Self:
        """Check the signature first. Raises ArtifactRefused for bytes that are not such a model."""
        with unpacked(npz, "a packed model of events") as arrays:
            algorithm = arrays["algorithm"].item()
            form = BODIES.get(algorithm)
            if form is None:
                raise ArtifactRefused(f"the bytes are of an algorithm that is not known: {algorithm}")
            names, labels = (tuple(json.loads(arrays[name].item())) for name in ("names", "labels"))
            filled = (arrays["fill"], arrays["mean"], arrays["scale"])
            return cls(algorithm, names, labels, *filled, _body(form, arrays))


def label_text(label: Label) -> str:
    """A class as it stands for its probability."""
    return label if isinstance(label, str) else json.dumps(label)


class BadCell(ValueError):
    """A value of a row that is no number."""

    def __init__(self, row: int, name: str, detail: str) -> None:
        super().__init__(detail)
        self.row, self.name, self.detail = row, name, detail


def to_number(value: Any) -> float:
    """A feature's value: numbers, true and false, and numbers written as text; none is not a number (missing).

    Raises ValueError, saying why, for anything else.
    """
    if value is None:
        return math.nan
    if isinstance(value, str):
        try:
            number = float(value)
        except ValueError:
            raise ValueError("the text is no number") from None
    elif isinstance(value, bool | int | float):
        number = float(value) if abs(value) <= MOST else math.inf
    else:
        raise ValueError("is neither a number nor text of one")
    if not abs(number) <= MOST:
        raise ValueError(f"is no number up to {MOST:g}")
    return number


def _sums(trees: Trees, X: Matrix) -> Floats:
    found = leaves(trees, X)
    if trees.value.shape[1] == 1:
        return np.asarray(trees.value.take(found).sum(axis=1))[:, None]
    total = np.zeros((len(X), trees.value.shape[1]))
    for tree in found.T:  # one after the other: all at once would hold rows × trees × classes
        total += trees.value[tree]
    return total


def _flat(body: Body) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for field in fields(body):
        value = getattr(body, field.name)
        if isinstance(value, Trees):
            found |= {f"trees_{part.name}": getattr(value, part.name) for part in fields(Trees)}
        else:
            found[f"body_{field.name}"] = value
    return found


def _body(form: type[Body], arrays: Mapping[str, Any]) -> Body:
    values: dict[str, Any] = {}
    for field in fields(form):
        if field.name == "trees":
            values["trees"] = Trees(**{part.name: _value(arrays[f"trees_{part.name}"]) for part in fields(Trees)})
        else:
            values[field.name] = _value(arrays[f"body_{field.name}"])
    return form(**values)


def _value(array: Any) -> Any:
    return array.item() if array.ndim == 0 else array
