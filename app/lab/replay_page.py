"""A replay as one self-contained page: the table, what each policy paid for, and how the bills grew."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

SHADES = {
    "storage": ("Storage", "#2f6f9f"),
    "requests": ("Requests", "#7fa650"),
    "retrieval": ("Retrieval", "#d98e2b"),
    "egress": ("Egress", "#3d9a94"),
    "move": ("Moves", "#a23b72"),
    "early_deletion": ("Early deletion", "#5a4a42"),
}
LINES = {
    "all_hot": ("#b3432f", ""),
    "lifecycle_tuned": ("#7a7a7a", "6 3"),
    "intelligent_tiering": ("#8a63b0", "2 3"),
    "best_site": ("#8a63b0", "2 3"),
    "foretide_direct": ("#7a7a7a", "6 3"),
    "foretide": ("#1d7a4c", ""),
    "foretide_managed": ("#1d7a4c", "2 2"),
    "clairvoyant": ("#222222", "8 3 2 3"),
}
"""Of the cumulated costs: colour and dashes, so that the lines differ without colour too."""
WIDTH, BAR, LEFT, HEIGHT = 900, 22, 190, 300
STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 64rem; padding: 0 1rem; color: #1c1c1c;
  background: #fff } h1 { font-size: 1.5rem } h2 { font-size: 1.1rem; margin-top: 2rem }
table { border-collapse: collapse; width: 100% } th, td { padding: .25rem .6rem; text-align: right }
th:first-child, td:first-child, th:last-child, td:last-child { text-align: left } tr.ours { font-weight: 600 }
thead th { border-bottom: 2px solid #444 } tbody tr:nth-child(even) { background: #f4f4f2 }
svg { max-width: 100%; height: auto } svg text { font: 13px system-ui, sans-serif; fill: currentColor }
@media (prefers-color-scheme: dark) { body { background: #161616; color: #e8e8e8 }
  tbody tr:nth-child(even) { background: #222 } }
"""


def page(document: Mapping[str, Any], daily: Mapping[str, Sequence[float]]) -> str:
    """The page of a replay's document; daily: dollars spent by each day's end, by policy."""
    assumed = "".join(f"<li>{escape(line)}</li>" for line in document["assumed"])
    notes = "".join(f"<li>{name.replace('_', ' ')}: {escape(line)}</li>" for name, line in document["notes"].items())
    told = (
        f"{document['objects']:,} objects; learnt from {document['begin']}, counted from {document['split']} to "
        f"{document['end']}. Prices: {escape(_prices(document))}."
    )
    title = f"Replay of {escape(document['trace'])}"
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f"<style>{STYLE}</style></head><body><h1>{title}</h1><p>{told}</p>"
        f"{f'<p>Assumed:</p><ul>{assumed}</ul>' if assumed else ''}"
        f"<h2>What each policy costs</h2>{_table(document['policies'])}<ul>{notes}</ul>"
        f"<h2>What is paid for, percent of all-hot</h2>{_bars(document['policies'])}"
        f"<h2>Cost over time</h2>{_lines(daily)}"
        f"<h2>Pre-warming for recurring peaks</h2>{_prewarming(document)}</body></html>"
    )


def _prewarming(document: Mapping[str, Any]) -> str:
    """Its figures; what they mean stands in the notes."""
    found = document["prewarming"]
    if found is None:
        return f"<p>{escape(document['notes']['prewarming'])}</p>"
    titles = ("", "Cost $", "SLA misses")
    head = "".join(f"<th>{title}</th>" for title in titles)
    rows = "".join(
        f"<tr><td>{name}</td><td>{found[f'usd_{name}']:,.2f}</td><td>{found[f'sla_misses_{name}']:,}</td></tr>"
        for name in ("with", "without")
    )
    told = (
        f"{found['peaks']:,} peaks: {found['met']:,} met, {found['missed']:,} missed; {found['false']:,} copies false."
    )
    return f"<p>{told}</p><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"


def _prices(document: Mapping[str, Any]) -> str:
    """The books with their dates: that of the one site, or each site's."""
    book = document["prices"]
    if "sites" in document:
        return ", ".join(f"{site['name']} {site['book']} of {site['as_of']}" for site in document["sites"])
    return f"{book['book']} of {book['as_of']} ({book['source']})"


def _table(policies: Sequence[Mapping[str, Any]]) -> str:
    titles = (
        "Policy", "Cost $", "% of all-hot", "Gap closed %", "Regret $", "Fees $", "Moves", "Paid back %", "Decided by",
    )  # fmt: skip
    rows = "".join(
        f"<tr{' class=ours' if row['name'].startswith('foretide') else ''}><td>{row['name']}</td>"
        f"<td>{row['cost']:,.2f}</td><td>{_number(row['percent_of_all_hot'])}</td><td>{_number(row['gap_closed'])}</td>"
        f"<td>{row['regret']:,.2f}</td><td>{row['fees']:,.2f}</td><td>{row['moves']:,}</td>"
        f"<td>{_number(row['paid_back'], 100)}</td><td>{escape(row['decided_by'])}</td></tr>"
        for row in policies
    )
    head = "".join(f"<th>{title}</th>" for title in titles)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"


def _number(value: float | None, times: float = 1) -> str:
    return "–" if value is None else f"{value * times:.1f}"


def _bars(policies: Sequence[Mapping[str, Any]]) -> str:
    """A stacked bar a policy; what passes 200 % is cut there and marked."""
    hot = next(row["cost"] for row in policies if row["name"] == "all_hot") or 1.0
    most = max(100.0, min(200.0, max(100 * row["cost"] / hot for row in policies)))
    scale = (WIDTH - LEFT - 80) / most
    parts = []
    for number, row in enumerate(policies):
        x, y = float(LEFT), number * (BAR + 8)
        parts.append(f'<text x="{LEFT - 8}" y="{y + 16}" text-anchor="end">{row["name"]}</text>')
        for name, (title, shade) in SHADES.items():
            usd = row["components"].get(name, 0.0)
            width = min(100 * usd / hot * scale, LEFT + most * scale - x)
            if width > 0.05:
                tip = f"{title}: ${usd:,.2f}"
                parts.append(
                    f'<rect x="{x:.1f}" y="{y}" width="{width:.1f}" height="{BAR}" fill="{shade}">'
                    f"<title>{tip}</title></rect>"
                )
                x += width
        cut = " →" if 100 * row["cost"] / hot > most else ""
        parts.append(f'<text x="{x + 6:.1f}" y="{y + 16}">{100 * row["cost"] / hot:.1f} %{cut}</text>')
    y = len(policies) * (BAR + 8) + 10
    paid = [SHADES[name] for name in SHADES if any(row["components"].get(name) for row in policies)]
    for number, (title, shade) in enumerate(paid):
        x = LEFT + number * 115
        parts.append(f'<rect x="{x}" y="{y}" width="14" height="14" fill="{shade}"/>')
        parts.append(f'<text x="{x + 20}" y="{y + 12}">{title}</text>')
    return _svg(y + 24, "Cost of each policy by component, percent of all-hot", parts)


def _lines(daily: Mapping[str, Sequence[float]]) -> str:
    """Dollars spent and owed, cumulated by day, of the policies that matter most."""
    shown = {name: daily[name] for name in LINES if daily.get(name)}
    top = max((max(values) for values in shown.values()), default=1.0) or 1.0
    days = max((len(values) for values in shown.values()), default=1)
    parts = [f'<line x1="70" y1="{HEIGHT}" x2="{WIDTH - 180}" y2="{HEIGHT}" stroke="currentColor"/>']
    parts += [f'<text x="64" y="16" text-anchor="end">${top:,.0f}</text>']
    parts += [f'<text x="64" y="{HEIGHT}" text-anchor="end">$0</text>']
    parts += [f'<text x="70" y="{HEIGHT + 18}">first day</text>']
    parts += [f'<text x="{WIDTH - 180}" y="{HEIGHT + 18}" text-anchor="end">day {days:,}</text>']
    for number, (name, values) in enumerate(shown.items()):
        shade, dashes = LINES[name]
        step = max(1, len(values) // 400)
        points = " ".join(
            f"{70 + day / max(days - 1, 1) * (WIDTH - 250):.1f},{HEIGHT - values[day] / top * (HEIGHT - 12):.1f}"
            for day in [*range(0, len(values), step), len(values) - 1]
        )
        style = f'stroke="{shade}" stroke-width="2" stroke-dasharray="{dashes}" fill="none"'
        parts.append(f'<polyline points="{points}" {style}><title>{name}</title></polyline>')
        y = 20 + number * 22
        parts.append(f'<line x1="{WIDTH - 165}" y1="{y}" x2="{WIDTH - 135}" y2="{y}" {style}/>')
        parts.append(f'<text x="{WIDTH - 130}" y="{y + 5}">{name}</text>')
    return _svg(HEIGHT + 30, "Cost cumulated by day", parts)


def _svg(height: int, title: str, parts: Sequence[str]) -> str:
    return f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{title}">{"".join(parts)}</svg>'
