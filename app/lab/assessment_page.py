"""An assessment as one self-contained page: what would be saved, how sure that is, and what was assumed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from app.lab.replay_page import STYLE

WIDTH, BAR, LEFT = 900, 26, 200


def page(document: Mapping[str, Any], title: str) -> str:
    """The page of an assessment's document."""
    body = _logs(document) if document["kind"] == "logs" else _inventory(document)
    prices = document["prices"]
    told = f"Prices: {escape(prices['book'])} of {prices['as_of']} ({escape(prices['source'])})."
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f"<style>{STYLE}</style></head><body><h1>{escape(title)}</h1>"
        f"<p>{document['objects']:,} objects, {document['bytes'] / 2**30:,.1f} GiB. {told}</p>{body}"
        f"{_today(document['today'])}{_list('Assumed', document['assumed'])}"
        f"{_list('How to read it', document['notes'])}"
        "</body></html>"
    )


def _logs(document: Mapping[str, Any]) -> str:
    rows = document["policies"]
    told = (
        f"Learnt from {document['begin']}, judged from {document['split']} to {document['end']}. With everything hot: "
        f"${document['all_hot_usd_a_month']:,.2f} a month."
    )
    titles = ("Policy", "$ a month", "Saves $", "Percent", "90 % range", "Moves")
    cells = [
        (
            row["name"], f"{row['usd_a_month']:,.2f}", f"{row['saves_usd_a_month']:,.2f}",
            f"{row['saves_percent']:.1f}", _range(row), f"{row['moves']:,}",
        )
        for row in rows
    ]  # fmt: skip
    bars = _bars([(row["name"], row) for row in rows])
    return f"<p>{told}</p>{_table(titles, cells)}<h2>Saved, percent of all-hot, with its range</h2>{bars}"


def _inventory(document: Mapping[str, Any]) -> str:
    rows = document["scenarios"]
    titles = ("If each is read a month", "$ a month", "Saves $", "Percent", "90 % range", "Moves")
    cells = [
        (
            f"{row['reads_a_month']:g} times", f"{row['usd_a_month']:,.2f}", f"{row['saves_usd_a_month']:,.2f}",
            f"{row['saves_percent']:.1f}", _range(row), f"{row['moves']:,}",
        )
        for row in rows
    ]  # fmt: skip
    bars = _bars([(f"{row['reads_a_month']:g} reads", row) for row in rows])
    return f"{_table(titles, cells)}<h2>Saved, percent, with its range</h2>{bars}"


def _range(row: Mapping[str, Any]) -> str:
    return f"{row['low_percent']:.1f} to {row['high_percent']:.1f}"


def _today(today: Mapping[str, Any] | None) -> str:
    if today is None:
        return ""
    titles = ("Class today", "Objects", "GiB", "Storage $ a month")
    cells = [
        (row["class"], f"{row['objects']:,}", f"{row['bytes'] / 2**30:,.1f}", f"{row['usd_a_month']:,.2f}")
        for row in today["classes"]
    ]
    return f"<h2>What is stored today</h2>{_table(titles, cells)}"


def _list(title: str, lines: Sequence[str]) -> str:
    items = "".join(f"<li>{escape(line)}</li>" for line in lines)
    return f"<h2>{title}</h2><ul>{items}</ul>" if lines else ""


def _table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(title)}</th>" for title in titles)
    body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _bars(rows: Sequence[tuple[str, Mapping[str, Any]]]) -> str:
    """A bar a row, to the left where it loses money, with a line over its range."""
    most = max(1.0, *(max(abs(row["low_percent"]), abs(row["high_percent"])) for _, row in rows))
    most = min(most, 100.0)
    zero, scale = LEFT + (WIDTH - LEFT - 90) / 3, (WIDTH - LEFT - 90) / 1.5 / most

    def at(percent: float) -> float:
        return float(zero + max(-most / 2, min(most, percent)) * scale)

    parts = []
    for number, (name, row) in enumerate(rows):
        y, end = number * (BAR + 8), at(row["saves_percent"])
        shade = "#1d7a4c" if end >= zero else "#b3432f"
        tip = f"{row['saves_percent']:.1f} % ({_range(row)})"
        middle = y + BAR / 2
        parts += [
            f'<text x="{LEFT - 8}" y="{y + 18}" text-anchor="end">{escape(name)}</text>',
            f'<rect x="{min(zero, end):.1f}" y="{y}" width="{abs(end - zero):.1f}" height="{BAR}" fill="{shade}">'
            f"<title>{tip}</title></rect>",
            f'<line x1="{at(row["low_percent"]):.1f}" y1="{middle}" x2="{at(row["high_percent"]):.1f}" y2="{middle}" '
            'stroke="currentColor" stroke-width="2"/>',
            f'<text x="{WIDTH - 82}" y="{y + 18}">{row["saves_percent"]:.1f} %</text>',
        ]
    height = len(rows) * (BAR + 8)
    parts.append(f'<line x1="{zero:.1f}" y1="0" x2="{zero:.1f}" y2="{height}" stroke="currentColor"/>')
    label = "What each saves, percent, with its range"
    return f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{label}">{"".join(parts)}</svg>'
