"""`foretide route explore`: what the made-up sites are like, and how well their slowness can be foreseen."""

from __future__ import annotations

from pathlib import Path

import click

from app.cli.arguments import NewFile
from app.cli.output import json_option, print_json
from app.cli.route_simulate import told


@click.command()
@click.option("--seed", type=click.IntRange(0, 2**31 - 1), default=1, show_default=True, help="Fixes all chance.")
@click.option("--report", type=NewFile(), help="Also write a page with pictures.")
@json_option
def explore(seed: int, report: Path | None, as_json: bool) -> None:
    """Explore made-up sites: load and latency, how early a slope shows, and what forecasts of slowness are worth.

    One scenario of each regime; the models learned from others. Nothing is sent anywhere.
    """
    from app.lab.route_exploration import explore as look
    from app.lab.route_exploration_page import page

    document = look(seed, told)
    if report:
        report.write_text(page(document))
    if as_json:
        print_json(document)
    else:
        click.echo(f"hidden load and latency   correlation {document['load_latency_correlation']:.2f}")
        click.echo(f"slope before latency      {document['slope_lead_s']} s")
        click.echo(f"source's forest           MAE {document['mae_ms']:.0f} ms, R² {document['r2']:.2f}")
        click.echo(
            f"risk of the next 45 s     Brier {document['brier']:.4f}, of the base rate"
            f" {document['brier_of_base_rate']:.4f} ({document['base_rate']:.1%} of {document['rows']:,} looks)"
        )
    if report:
        click.echo(f"the report is in {report}", err=True)
