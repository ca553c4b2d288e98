"""Which demand model serves, by the temporal protocol (step: learn).

Trees are fitted on the first 55 % of the time, candidates chosen and their spread found on the next 15 %; fitted anew
on all that is known at 70 %, everything is judged on the rest, its spread renewed from what came true until then, as in
service. What serves is fitted once more on all that is known, where it is asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from app.errors import NotEnoughData
from ml import demand_measures, demand_models, demand_spread
from ml.dataset import KNOWN_SHARE, TRAIN_SHARE
from ml.demand_models import BASELINES, CANDIDATES, Boosted
from ml.demand_rows import Observer, Rows
from ml.demand_spread import Known
from ml.history import Floats

LEAST_ROWS = 50
LEAST_READS = 10
STEPS = 4
SAME_OBJECT = 2_654_435_761
"""Knuth's multiplier: objects are dealt to two halves whatever their order."""
Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Limits:
    """What bounds training to minutes."""

    pairs: int = 250_000
    """Most rows, pairs of an object and a time, that features are made for."""
    fit: int = 60_000
    """Most of them that one fit learns from."""
    renewals: int = 30
    """So often is the spread renewed over the test part; in service at each pass."""


@dataclass(frozen=True)
class Judged:
    """What training found out for one horizon."""

    document: dict[str, Any]
    """base_rate, models with their measures, champion and reason, as they are shown."""
    champion: str
    baseline: str
    """The best one."""
    trial: Boosted
    """Fitted on what was known at 70 %, as it was judged; of the champion's parts."""
    known: Known
    """What the champion said before it knew: its spread comes from these rows and from later ones."""
    baseline_known: Known
    """The same of the best baseline."""
    lost: Floats
    """Quantile loss of each test row, by the champion."""
    rows: Rows
    """Of all parts."""
    test: Rows
    end: int
    """Until when accesses were known, microseconds."""

    def fit(self, seed: int, limits: Limits | None = None) -> tuple[Boosted, dict[str, Any]]:
        """The champion fitted on all that is known, and its scikit-learn estimators by part."""
        fitted, estimators = _fit(self.rows, limits or Limits(), np.random.default_rng(seed), seed)
        needed = {name: one for name, one in estimators.items() if name in demand_models.PARTS[self.champion]}
        return fitted.only(self.champion), needed


def judge(observer: Observer, end: int, seed: int, limits: Limits | None = None, say: Progress | None = None) -> Judged:
    """Fits, chooses and judges for the observer's horizon. end: until when accesses are known, microseconds.

    Raises NotEnoughData where a part has fewer than 50 rows or 10 rows with reads.
    """
    limits, say = limits or Limits(), say or _silent
    begin, horizon = observer.history.begin, observer.horizon
    trained, known_at = (begin + int(share * (end - begin)) for share in (TRAIN_SHARE, KNOWN_SHARE))
    rng = np.random.default_rng(seed)
    say(0, STEPS, "making rows")
    rows = observer.rows(observer.cuts(begin + observer.step(), end), limits.pairs, rng)
    over = rows.cut + horizon
    parts = {
        "train": rows.where(over <= trained),
        "choose": rows.where((rows.cut >= trained) & (over <= known_at)),
        "test": rows.where(rows.cut >= known_at),
    }
    for name, part in parts.items():
        _check(part, name, horizon)
    say(1, STEPS, "fitting on the first 55 %")
    choose, test = parts["choose"], parts["test"]
    first = _fit(parts["train"], limits, rng, seed)[0]
    say(2, STEPS, "fitting on 70 %")
    second = _fit(rows.where(over <= known_at), limits, rng, seed)[0]
    say(3, STEPS, "judging on the rest")
    trials = {name: _Trial(name, choose, first, test, second) for name in (*CANDIDATES, *BASELINES)}
    measured = {name: trial.judged(known_at, horizon, limits.renewals, seed) for name, trial in trials.items()}
    document = _document(trials, measured, test, seed)
    document |= {"rows": {name: len(part) for name, part in parts.items()}, "horizon_days": observer.days}
    say(STEPS, STEPS, "judged")
    champion, baseline = document["champion"], document["best_baseline"]
    return Judged(
        document=document,
        champion=champion,
        baseline=baseline,
        trial=second.only(champion),
        known=trials[champion].known(),
        baseline_known=trials[baseline].known(),
        lost=measured[champion]["lost"],
        rows=rows,
        test=test,
        end=end,
    )


def rolled(past: Known, later: Known, horizon: int, renewals: int, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Quantile losses and transforms of the later rows, each by the spread as it stood at its cut: as in service.

    Of the past some row's horizon must be over by the first cut.
    """
    known = past.joined(later)
    lost, u = np.empty(len(later)), np.empty(len(later))
    moments = np.unique(later.cut)
    for some in np.array_split(moments, min(len(moments), renewals)):
        here = (later.cut >= some[0]) & (later.cut <= some[-1])
        spread = demand_spread.fit(known.where(known.cut + horizon <= some[0]), int(some[0]), horizon)
        rows = later.where(here)
        lost[here] = demand_measures.pinball(rows.reads, spread.quantiles(rows.mean, rows.before))
        u[here] = spread.transform(rows, rng)
    return lost, u


def _silent(done: int, total: int, what: str) -> None:
    """Tells nobody."""


def _check(part: Rows, name: str, horizon: int) -> None:
    read = int((part.reads > 0).sum())
    if len(part) < LEAST_ROWS or read < LEAST_READS:
        raise NotEnoughData(
            f"of {len(part)} rows to {name} on, {read} were read within {horizon // 3_600_000_000} h: "
            f"{LEAST_ROWS} rows and {LEAST_READS} that were are needed"
        )


def _fit(rows: Rows, limits: Limits, rng: np.random.Generator, seed: int) -> tuple[Boosted, dict[str, Any]]:
    if len(rows) > limits.fit:
        rows = rows.where(np.sort(rng.choice(len(rows), limits.fit, replace=False)))
    return demand_models.fit(rows, seed)


class _Trial:
    """What one candidate or baseline said of the choosing part and of the test part, before it knew."""

    def __init__(self, name: str, choose: Rows, first: Boosted, test: Rows, second: Boosted) -> None:
        self.choose = said(choose, first.means(choose, name))
        self.test = said(test, second.means(test, name))
        self.sizes = self.test.mean * test.bytes_a_read

    def known(self) -> Known:
        """All of it."""
        return self.choose.joined(self.test)

    def chosen_by(self, now: int, horizon: int) -> float:
        """Quantile loss on the choosing part; the spread of an object's rows comes from the other half of objects."""
        half = (self.choose.object * SAME_OBJECT >> 7) % 2 == 0
        if half.all() or not half.any():
            half = np.arange(len(half)) % 2 == 0
        lost = []
        for here in (half, ~half):
            rows = self.choose.where(here)
            spread = demand_spread.fit(self.choose.where(~here), now, horizon)
            lost.append(demand_measures.pinball(rows.reads, spread.quantiles(rows.mean, rows.before)))
        return float(np.concatenate(lost).mean())

    def judged(self, now: int, horizon: int, renewals: int, seed: int) -> dict[str, Any]:
        """Losses and transforms of the test part's rows, and the loss by which it was chosen."""
        lost, u = rolled(self.choose, self.test, horizon, renewals, np.random.default_rng(seed))
        return {"lost": lost, "u": u, "choosing_loss": self.chosen_by(now, horizon)}


def said(rows: Rows, mean: Floats) -> Known:
    """What was said of rows beside what came."""
    return Known(mean, rows.before, rows.reads, rows.object, rows.cut)


def _document(trials: dict[str, _Trial], measured: dict[str, Any], test: Rows, seed: int) -> dict[str, Any]:
    names = list(trials)
    lost = np.stack([measured[name]["lost"] for name in names], axis=1)
    draws = demand_measures.resampled(lost, test.object, seed)
    losses = dict(zip(names, lost.mean(axis=0).tolist(), strict=True))
    baseline = min(BASELINES, key=lambda name: losses[name])
    gains = {
        name: demand_measures.interval(draws[:, names.index(baseline)] - draws[:, at]) for at, name in enumerate(names)
    }
    order = sorted(CANDIDATES, key=lambda name: float(measured[name]["choosing_loss"]))
    champion = next((name for name in order if gains[name][1] >= 0), baseline)
    return {
        "base_rate": float(test.reads.mean()),
        "models": [
            {
                "name": name,
                "kind": "baseline" if name in BASELINES else "model",
                **_measures(trials[name], measured[name], test),
                "quantile_loss_interval": demand_measures.interval(draws[:, names.index(name)]),
                "quantile_loss_gain_interval": gains[name],
            }
            for name in names
        ],
        "champion": champion,
        "best_baseline": baseline,
        "reason": _reason(champion, baseline, losses, gains[champion]),
    }


def _reason(champion: str, baseline: str, losses: dict[str, float], gain: list[float]) -> str:
    if champion == baseline:
        return f"no candidate is as good as the baseline {baseline}, whose quantile loss is {losses[baseline]:.4f}"
    told = f"quantile loss {losses[champion]:.4f} against {losses[baseline]:.4f} of the best baseline {baseline}"
    return f"the best on earlier rows of those as good as any baseline: {told} (gain {gain[0]:+.4f} to {gain[1]:+.4f})"


def _measures(trial: _Trial, found: dict[str, Any], test: Rows) -> dict[str, Any]:
    mean = trial.test.mean
    return {
        "n": len(test),
        "mean_reads": float(mean.mean()),
        "poisson_deviance": demand_measures.deviance(test.reads, mean),
        "mae": float(np.abs(test.reads - mean).mean()),
        "quantile_loss": float(found["lost"].mean()),
        "coverage": demand_measures.coverage(found["u"]),
        "bytes_mae": float(np.abs(test.bytes - trial.sizes).mean()),
        "choosing_loss": found["choosing_loss"],
    }
