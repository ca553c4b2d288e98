"""An exploration of routing as one self-contained page: three pictures and the figures beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import log10
from typing import Any

from app.lab.replay_page import STYLE

SIDE, LEFT, FULL = 360, 60, 520
LINE, GREY = "#1d7a4c", "#7a7a7a"


def page(document: Mapping[str, Any]) -> str:
    """The page of an exploration's document."""
    title = f"Routing explored, seed {document['seed']}"
    figures = {
        "Correlation of hidden load and ln of latency": f"{document['load_latency_correlation']:.2f}",
        "The slope leads the latency by": f"{document['slope_lead_s']} s",
        "Source's forest: mean absolute error": f"{document['mae_ms']:.0f} ms",
        "Source's forest: R²": f"{document['r2']:.2f}",
        "Slow within 45 s": f"{document['base_rate']:.1%} of {document['rows']:,} looks",
        "Brier of the risk": f"{document['brier']:.4f} (of the base rate {document['brier_of_base_rate']:.4f})",
    }
    rows = "".join(f"<tr><td>{name}</td><td>{value}</td></tr>" for name, value in figures.items())
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f"<style>{STYLE}</style></head><body><h1>{title}</h1><table><tbody>{rows}</tbody></table>"
        f"<h2>Load and latency</h2>{_scatter(document['points'])}"
        f"<h2>How long before the latency its slope rises</h2>{_lags(document['slope_correlation'])}"
        f"<h2>Reliability of the risk</h2>{_reliability(document['reliability'])}</body></html>"
    )


def _frame(x: str, y: str, ticks_x: Sequence[tuple[float, str]], ticks_y: Sequence[tuple[float, str]]) -> list[str]:
    """ticks: place between 0 and 1, and text."""
    parts = [f'<rect x="{LEFT}" y="10" width="{SIDE}" height="{SIDE}" fill="none" stroke="currentColor"/>']
    for at, text in ticks_x:
        parts.append(f'<text x="{LEFT + at * SIDE:.0f}" y="{SIDE + 28}" text-anchor="middle">{text}</text>')
    for at, text in ticks_y:
        parts.append(f'<text x="{LEFT - 6}" y="{10 + (1 - at) * SIDE + 5:.0f}" text-anchor="end">{text}</text>')
    parts.append(f'<text x="{LEFT + SIDE / 2}" y="{SIDE + 48}" text-anchor="middle">{x}</text>')
    parts.append(f'<text x="{LEFT + SIDE + 12}" y="24">{y}</text>')
    return parts


def _svg(title: str, parts: Sequence[str]) -> str:
    box = f"0 0 {FULL + 240} {SIDE + 60}"
    return f'<svg viewBox="{box}" width="{FULL + 240}" role="img" aria-label="{title}">{"".join(parts)}</svg>'


def _place(x: float, y: float) -> tuple[float, float]:
    return LEFT + x * SIDE, 10 + (1 - y) * SIDE


def _scatter(points: Sequence[Sequence[float]]) -> str:
    """Load up to 1.6 of what the servers can do; latency from 10 ms to 10 s on a logarithmic scale."""
    scale = [(n / 3, text) for n, text in enumerate(("10 ms", "100 ms", "1 s", "10 s"))]
    parts = _frame("hidden load ÷ capacity", "mean latency of 10 s", [(0, "0"), (0.625, "1"), (1, "1.6")], scale)
    for load, took in points:
        x, y = _place(min(load / 1.6, 1.0), min(max((log10(took) - 1) / 3, 0.0), 1.0))
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.5" fill="{LINE}" fill-opacity=".5"/>')
    return _svg("Load and latency", parts)


def _lags(values: Sequence[float]) -> str:
    last = len(values) - 1
    ticks = [(0, "0"), (0.5, f"{last // 2}"), (1, f"{last} s")]
    parts = _frame("seconds later", "correlation with the slope", ticks, [(0, "−1"), (0.5, "0"), (1, "1")])
    line = " ".join("{:.1f},{:.1f}".format(*_place(n / last, (value + 1) / 2)) for n, value in enumerate(values))
    parts.append(f'<polyline points="{line}" fill="none" stroke="{LINE}" stroke-width="2"/>')
    return _svg("Correlation of the slope with later latency", parts)


def _reliability(bins: Sequence[Mapping[str, float]]) -> str:
    ends = [(0, "0"), (1, "1")]
    parts = _frame("risk said", "share that was slow within 45 s", ends, ends)
    (x0, y0), (x1, y1) = _place(0, 0), _place(1, 1)
    parts.append(f'<line x1="{x0}" y1="{y0}" x2="{x1}" y2="{y1}" stroke="{GREY}" stroke-dasharray="6 3"/>')
    for each in bins:
        x, y = _place(each["p"], each["came"])
        tip = f"said {each['p']:.3f}, came {each['came']:.3f}, {each['n']:,} looks"
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" fill="{LINE}"><title>{tip}</title></circle>')
    return _svg("Reliability of the risk", parts)
