"""What users may train over their own events: algorithms, their parameters with bounds, limits (step: learn)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from app.errors import FieldError, Invalid, pointer_to

RESERVED = ("tier", "demand", "placement")
"""Names of the models that Foretide trains itself."""
MAX_EVENTS = 1_000_000
MAX_ROW_FEATURES = 20_000_000
"""Events × features of one training: 160 MB as numbers."""
MAX_FEATURES = 200
SEED = 20_260_101
MEASURES = ("log_loss", "rmse")
"""By which two versions are compared: of classes, of numbers."""


class Algorithm(StrEnum):
    """What can be trained by name."""

    RANDOM_FOREST = "random_forest"
    LINEAR_REGRESSION = "linear_regression"
    KMEANS = "kmeans"
    ISOLATION_FOREST = "isolation_forest"


class Task(StrEnum):
    """What a target is; by itself numbers are measured, text and true or false are classes."""

    AUTO = "auto"
    CLASSIFICATION = "classification"
    REGRESSION = "regression"


class Missing(StrEnum):
    """What a feature counts as where an event does not have it."""

    MEAN = "mean"
    ZERO = "zero"
    DROP = "drop"


SUPERVISED = frozenset({Algorithm.RANDOM_FOREST, Algorithm.LINEAR_REGRESSION})
SCALED = frozenset({Algorithm.LINEAR_REGRESSION, Algorithm.KMEANS})
"""Standardized unless told otherwise: forests do not care."""


@dataclass(frozen=True)
class Bound:
    """A parameter: its least and greatest value and what it is by default."""

    least: float
    most: float
    default: float
    whole: bool = True


PARAMS: Mapping[Algorithm, Mapping[str, Bound]] = {
    Algorithm.RANDOM_FOREST: {
        "n_estimators": Bound(1, 500, 100),
        "max_depth": Bound(1, 30, 10),
        "min_samples_leaf": Bound(1, 100_000, 1),
    },
    Algorithm.LINEAR_REGRESSION: {},
    Algorithm.KMEANS: {"n_clusters": Bound(1, 200, 3), "n_init": Bound(1, 20, 4)},
    Algorithm.ISOLATION_FOREST: {
        "n_estimators": Bound(1, 500, 100),
        "contamination": Bound(0.0001, 0.5, 0.05, whole=False),
    },
}


@dataclass(frozen=True)
class Recipe:
    """What is trained, of which fields of the events."""

    algorithm: Algorithm
    features: tuple[str, ...]
    target: str | None
    time: str | None
    task: Task
    scale: bool
    missing: Missing
    params: Mapping[str, float]
    seed: int

    def as_json(self) -> dict[str, Any]:
        """As it stands in a job."""
        return {**asdict(self), "features": list(self.features), "params": dict(self.params)}

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Recipe:
        """The recipe of a job, or of a request whose types were checked. Raises Invalid, pointing at each field."""
        algorithm = Algorithm(document["algorithm"])
        features, target, time = tuple(document["features"]), document.get("target"), document.get("time")
        scale = document.get("scale")
        errors = [*_field_errors(algorithm, features, target, time), *_param_errors(algorithm, document["params"])]
        task = Task(document.get("task") or Task.AUTO)
        if task is Task.CLASSIFICATION and algorithm is not Algorithm.RANDOM_FOREST:
            errors.append(FieldError("/task", f"{algorithm} has no classes; random_forest has"))
        if errors:
            raise Invalid(errors=tuple(errors))
        return cls(
            algorithm,
            features,
            target,
            time,
            task,
            algorithm in SCALED if scale is None else scale,
            Missing(document.get("missing") or Missing.MEAN),
            {name: document["params"].get(name, bound.default) for name, bound in PARAMS[algorithm].items()},
            document.get("seed", SEED),
        )


@dataclass(frozen=True)
class Verdict:
    """Whether a version that was trained serves, and what is said of that beside its own figures."""

    serves: bool
    said: str = ""


def judged(
    name: str,
    number: int,
    champion: int | None,
    beats: tuple[bool | None, bool | None],
    against: Mapping[str, Any] | None,
    *,
    newer: bool = False,
) -> Verdict:
    """The first serves whatever it is worth; a later one where it is better than the one that does on the same rows.

    beats: whether it, and the champion, beat their baselines. against: its gain over the champion on `n` rows, of which
    `least` are needed; `known`: whether the champion has learned from none of these, so that of `held_out` others were
    left out. Where two cannot be compared, as of another target, the later serves, unless only the earlier is known to
    beat its baseline. newer: the champion began to serve while this one was trained: nobody has compared the two.
    """
    if champion is None:
        return Verdict(True, "" if beats[0] else "; the first version serves all the same")
    promote = f"; to let it serve: foretide models promote {name} {number} --reason …"
    if newer:
        began = f"; version {champion} began to serve while this one was trained, and the two have not been compared"
        return Verdict(False, began + promote)
    if against is None:
        if beats[1] and not beats[0]:
            return Verdict(False, f"; version {champion}, which beats its own, goes on serving{promote}")
        return Verdict(True, f"; it cannot be compared with version {champion} and serves as the newer one")
    few = "" if against["n"] >= against["least"] else f", and {against['least']} are the least to judge by"
    if not against["n"]:
        nothing = f"; version {champion} may have learned from all {against['held_out']} rows held out"
        return Verdict(False, f"{nothing}: there is nothing to compare the two on{promote}")
    by = next(measure for measure in MEASURES if measure in against)
    found = against[by]
    low, high = found["interval"]
    told = (
        f"version {champion}: {by} {found['value']:.4g} against {found['beside']:.4g} on the same {against['n']} rows"
        f" (gain {found['gain']:.3g}, 90 % interval {low:.3g} to {high:.3g}){_fairly(against)}"
    )
    if not few and low > 0:
        return Verdict(True, f"; better than {told}")
    return Verdict(False, f"; not known to be better than {told}{few}{promote}")


def _fairly(against: Mapping[str, Any]) -> str:
    if not against["known"]:
        return ", of which it may have learned from some: that is not known"
    return f", of {against['held_out']} held out those that it has not learned from"


def _field_errors(
    algorithm: Algorithm, features: Sequence[str], target: str | None, time: str | None
) -> list[FieldError]:
    errors = []
    if len(set(features)) < len(features):
        errors.append(FieldError("/features", "a feature stands twice"))
    if algorithm in SUPERVISED and target is None:
        errors.append(FieldError("/target", f"{algorithm} needs the field that it learns to tell"))
    if algorithm not in SUPERVISED and target is not None:
        errors.append(FieldError("/target", f"{algorithm} takes no target"))
    for name, field in (("target", target), ("time", time)):
        if field is not None and field in features:
            errors.append(FieldError(f"/{name}", f"{field} is a feature too"))
    return errors


def _param_errors(algorithm: Algorithm, params: Mapping[str, float]) -> list[FieldError]:
    errors, known = [], PARAMS[algorithm]
    for name, value in params.items():
        bound = known.get(name)
        if bound is None:
            there = f"there are {', '.join(known)}" if known else "it has none"
            errors.append(FieldError(pointer_to("params", name), f"{algorithm} has no such parameter; {there}"))
        elif not bound.least <= value <= bound.most or (bound.whole and value != int(value)):
            kind = "a whole number" if bound.whole else "a number"
            errors.append(FieldError(f"/params/{name}", f"is {kind} from {bound.least:g} to {bound.most:g}"))
    return errors
