"""An evaluation as one self-contained page: the table, the calibration curve and what the champion goes by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from app.lab.replay_page import STYLE

WIDTH, SIDE, BAR, LEFT = 900, 360, 20, 190
SHOWN = 15
MODEL, LINE = "#1d7a4c", "#7a7a7a"
TIER = {
    "AUC": "auc", "PR-AUC": "pr_auc", "Brier": "brier", "Log loss": "log_loss", "ECE": "ece",
}  # fmt: skip
DEMAND = {
    "Quantile loss": "quantile_loss", "Poisson deviance": "poisson_deviance", "MAE": "mae", "80 % coverage": "coverage",
}  # fmt: skip


def page(document: Mapping[str, Any]) -> str:
    """The page of an evaluation's document."""
    title = f"{escape(document['model'])} on {escape(document['trace'])}, {document['horizon']} ahead"
    columns = TIER if document["model"] == "tier" else DEMAND
    pictures = ""
    if document.get("calibration"):
        pictures += f"<h2>Calibration of {escape(document['champion'])}</h2>{_calibration(document['calibration'])}"
    if document.get("importances"):
        pictures += f"<h2>What {escape(document['champion'])} goes by</h2>{_importances(document['importances'])}"
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f"<style>{STYLE}</style></head><body><h1>{title}</h1>"
        f"<p>Serves: <strong>{escape(document['champion'])}</strong>: {escape(document['reason'])}. "
        "All were fitted on the first 70 % of the time and judged on the rest.</p>"
        f"{_table(document, columns)}{pictures}</body></html>"
    )


def _table(document: Mapping[str, Any], columns: Mapping[str, str]) -> str:
    head = "".join(f"<th>{title}</th>" for title in ("Model", *columns, "Kind"))
    rows = ""
    for row in document["models"]:
        ours = " class=ours" if row["name"] == document["champion"] else ""
        cells = "".join(f"<td>{_with_interval(row, key)}</td>" for key in columns.values())
        rows += f"<tr{ours}><td>{escape(row['name'])}</td>{cells}<td>{row['kind']}</td></tr>"
    return f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"


def _with_interval(row: Mapping[str, Any], key: str) -> str:
    value, interval = row.get(key), row.get(f"{key}_interval")
    if value is None:
        return "–"
    told = f"{value:.4f}"
    return told + (f" <small>({interval[0]:.3f}–{interval[1]:.3f})</small>" if interval else "")


def _calibration(bins: Sequence[Mapping[str, float]]) -> str:
    """What was said against what came; on the dashed line both are equal."""

    def at(p: float, read: float) -> tuple[float, float]:
        return 60 + p * SIDE, 10 + (1 - read) * SIDE

    (x0, y0), (x1, y1) = at(0, 0), at(1, 1)
    parts = [
        f'<rect x="{x0}" y="{y1}" width="{SIDE}" height="{SIDE}" fill="none" stroke="currentColor"/>',
        f'<line x1="{x0}" y1="{y0}" x2="{x1}" y2="{y1}" stroke="{LINE}" stroke-dasharray="6 3"/>',
        f'<text x="{x0}" y="{y0 + 18}">0</text><text x="{x1}" y="{y0 + 18}" text-anchor="end">1</text>',
        f'<text x="{(x0 + x1) / 2}" y="{y0 + 18}" text-anchor="middle">probability said</text>',
        f'<text x="{x0 - 6}" y="{y0}" text-anchor="end">0</text>',
        f'<text x="{x0 - 6}" y="{y1 + 12}" text-anchor="end">1</text>',
        f'<text x="{x1 + 20}" y="{y1 + 20}">share that was read, in ten bins of as many rows</text>',
    ]
    points = [at(each["p"], each["read"]) for each in bins]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    parts.append(f'<polyline points="{path}" fill="none" stroke="{MODEL}" stroke-width="2"/>')
    for (x, y), each in zip(points, bins, strict=True):
        tip = f"said {each['p']:.3f}, read {each['read']:.3f}, {each['n']:,} rows"
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" fill="{MODEL}"><title>{tip}</title></circle>')
    return _svg(SIDE + 40, "Calibration curve", parts)


def _importances(found: Mapping[str, Mapping[str, float]]) -> str:
    """Log loss added when a feature's values are dealt anew among the rows."""
    ranked = sorted(found.items(), key=lambda item: -item[1]["log_loss_added"])[:SHOWN]
    most = max((each["log_loss_added"] for _, each in ranked), default=0.0) or 1.0
    parts = []
    for number, (name, each) in enumerate(ranked):
        y, width = number * (BAR + 6), max(0.0, each["log_loss_added"]) / most * (WIDTH - LEFT - 120)
        parts.append(f'<text x="{LEFT - 8}" y="{y + 15}" text-anchor="end">{escape(name)}</text>')
        parts.append(f'<rect x="{LEFT}" y="{y}" width="{width:.1f}" height="{BAR}" fill="{MODEL}"/>')
        parts.append(f'<text x="{LEFT + width + 6:.1f}" y="{y + 15}">+{each["log_loss_added"]:.4f} log loss</text>')
    return _svg(len(ranked) * (BAR + 6), "What the model goes by", parts)


def _svg(height: float, title: str, parts: Sequence[str]) -> str:
    return (
        f'<svg viewBox="0 0 {WIDTH} {height:.0f}" width="{WIDTH}" role="img" aria-label="{title}">'
        f"{''.join(parts)}</svg>"
    )
