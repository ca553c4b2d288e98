"""What `foretide models` shows of a version, by title."""

from __future__ import annotations

from app.cli.output import Cell, Columns, Json, money, when_of


def _metric(name: str) -> Cell:
    def shown(item: Json) -> str | None:
        value = (item.get("metrics") or {}).get(name)
        return f"{value:.3f}" if isinstance(value, float) else value

    return shown


MEASURES = ("rmse", "accuracy", "inertia", "quantile_loss")
"""Of the demand model and of models over users' own events: what is shown of each."""


def _own_measure(item: Json) -> str | None:
    metrics = item.get("metrics") or {}
    return next((f"{name} {metrics[name]:.4g}" for name in MEASURES if name in metrics), None)


def _baselines(item: Json) -> str:
    """Each with its AUC or its own measure; what has none is of placement, and told in dollars by site."""
    told = []
    for name, metrics in (item.get("baselines") or {}).items():
        if isinstance(metrics, dict) and (measure := next((m for m in MEASURES if m in metrics), None)):
            told.append(f"{name} {measure} {metrics[measure]:.4g}")
            continue
        if isinstance(metrics, dict) and "auc" not in metrics:
            learned = (item.get("metrics") or {}).get(name, {}).get("learned")
            beside = [f"{other} {money(usd)}" for other, usd in metrics.items()]
            told.append(f"{name}: learned {money(learned)}, {', '.join(beside)}")
            continue
        auc = metrics.get("auc") if isinstance(metrics, dict) else metrics
        told.append(f"{name} {auc:.3f}" if isinstance(auc, float) else f"{name} {auc}")
    return ", ".join(told)


def _beats(item: Json) -> str | None:
    """Of models over users' own events whether they are proven to be of use, and on how many rows."""
    metrics = item.get("metrics") or {}
    if "beats_baseline" not in metrics:
        return None
    said = {True: "yes", False: "no", None: "unknown"}[metrics["beats_baseline"]]
    return f"{said} (n {metrics.get('n', 0)})"


def _algorithm(item: Json) -> str:
    return f"{item['algorithm']} (a baseline)" if item.get("is_baseline") else item["algorithm"]


def _of(field: str, part: str) -> Cell:
    return lambda item: (item.get(field) or {}).get(part)


def _gain(measure: str) -> Cell:
    """The gain over the champion of its time, on what happened where it was shadow, else in training."""

    def shown(item: Json) -> str | None:
        gate = item.get("gate") or {}
        found = (gate.get("shadow") or gate.get("training") or {}).get(measure)
        return f"{found['gain']:+.4f} ({found['interval'][0]:+.4f}, {found['interval'][1]:+.4f})" if found else None

    return shown


def _quantile_gains(item: Json) -> str:
    """As `_gain`, in quantile loss by horizon, as shares of the champion's."""
    gate = item.get("gate") or {}
    found = gate.get("shadow") or gate.get("training") or {}
    return ", ".join(
        f"{name.removeprefix('quantile_loss').removeprefix('_')} {gain['gain']:+.1%}"
        f" ({gain['interval'][0]:+.1%}, {gain['interval'][1]:+.1%})".strip()
        for name, gain in found.items()
        if name.startswith("quantile_loss")
    )


def _over(item: Json) -> str:
    return "over" if item["over"] else ""


COLUMNS: Columns = {
    "NAME": "name",
    "VERSION": "version",
    "STATE": "state",
    "ALGORITHM": _algorithm,
    "AUC": _metric("auc"),
    "PR AUC": _metric("pr_auc"),
    "MEASURE": _own_measure,
    "BASELINES": _baselines,
    "BEATS THEM": _beats,
    "TRAINED": when_of("created_at"),
}
VERSIONS: Columns = {
    "VERSION": "version",
    "STATE": "state",
    "ALGORITHM": _algorithm,
    "AUC": _metric("auc"),
    "MEASURE": _own_measure,
    "BEATS BASELINE": _beats,
    "TRAINED": when_of("created_at"),
    "SERVED FROM": when_of("promoted_at"),
    "REASON": "reason",
}
EVALUATIONS: Columns = {
    "VERSION": "version",
    "STATE": "state",
    "ROWS": _metric("n"),
    "AUC": _metric("auc"),
    "PR AUC": _metric("pr_auc"),
    "LOG LOSS": _metric("log_loss"),
    "MEASURE": _own_measure,
    "ECE": _metric("ece"),
    "BASELINES": _baselines,
    "GAIN IN LOG LOSS": _gain("log_loss"),
    "GAIN IN AUC": _gain("auc"),
    "GAIN IN QUANTILE LOSS": _quantile_gains,
}
FIELDS: Columns = {
    **COLUMNS,
    "REASON": "reason",
    "SERVED FROM": when_of("promoted_at"),
    "REPLACED": "replaced",
    "LEARNED FROM": _of("data", "from"),
    "LEARNED UNTIL": _of("data", "to"),
    "ROWS": "rows",
    "CHAMPION THEN": "parent",
    "JOB": "job_id",
    "FEATURES": "features",
    "METRICS": "metrics",
    "PARAMETERS": "params",
    "LIBRARIES": "libraries",
    "FILES": "files",
}
DRIFT: Columns = {
    "FEATURE": "feature",
    "PSI": "psi",
    "LIMIT": "limit",
    "KS": "ks",
    "KS BY CHANCE": "ks_critical",
    "ROWS": "n",
    "OBJECTS": "objects",
    "": _over,
}
IMPORTANCES: Columns = {
    "FEATURE": "feature",
    "AUC LOST": "auc_lost",
    "LOG LOSS ADDED": "log_loss_added",
    "LOSS ADDED": "loss_added",
    "ITS OWN SHARE": "built_in",
}
