"""The root of the command line: every verb by name, each loaded only when it is called."""

from __future__ import annotations

import importlib
from dataclasses import dataclass

import click


@dataclass(frozen=True)
class Verb:
    """Where a command stands, as module:attribute, and its line in the overview."""

    target: str
    help: str


VERBS: dict[str, Verb] = {
    "demo": Verb("app.cli.demo:demo", "Run the whole main job on this machine, from nothing."),
    "up": Verb("app.cli.up:up", "Run the services on a state folder that survives restarts."),
    "test": Verb("app.cli.test:test", "Run the linters and the test suite."),
    "doctor": Verb("app.cli.doctor:doctor", "Say what is wrong and how to mend it."),
    "db": Verb("app.cli.db:db", "Bring the database's schema up to date."),
    "accesses": Verb("app.cli.accesses:accesses", "Count hourly sums of accesses anew."),
    "aggregate": Verb("app.cli.aggregate:aggregate", "Send samples of metrics, and show their windows and tops."),
    "alerts": Verb("app.cli.alerts:alerts", "List, acknowledge and resolve alerts."),
    "assess": Verb("app.cli.assess:assess", "Show what would be saved, from logs or an inventory, read-only."),
    "audit": Verb("app.cli.audit:audit", "Show who changed what."),
    "batch": Verb("app.cli.batch:batch", "Aggregate, join and judge many events at once."),
    "beat": Verb("app.cli.worker:beat", "Run Celery beat, which rings the periodic passes."),
    "bench": Verb("app.cli.bench:bench", "Measure against peers and bars."),
    "chaos": Verb("app.cli.chaos:chaos", "Make sites fail, slow down, refuse or lie for a while."),
    "completion": Verb("app.cli.completion:completion", "Print a shell's completion script."),
    "config": Verb("app.cli.config:config", "Show the settings, or the API's OpenAPI document."),
    "events": Verb("app.cli.events:events", "Publish and read events, watch and mend their consumers."),
    "explain": Verb("app.cli.explain:explain", "Show why an object is where it is."),
    "exports": Verb("app.cli.exports:exports", "List and run the export of accesses as Parquet."),
    "flower": Verb("app.cli.worker:flower", "Run Flower behind a password on loopback."),
    "ingest": Verb("app.cli.ingest:ingest", "Send accesses from files, folders or a pipe."),
    "jobs": Verb("app.cli.jobs:jobs", "Follow, stop and retry what was submitted."),
    "migrate": Verb("app.cli.migrate:migrate", "Watch moves under way, retry or cancel them."),
    "mode": Verb("app.cli.mode:mode", "Show or set how far the optimizer may go by itself."),
    "models": Verb("app.cli.models:models", "List, judge, train and promote models."),
    "objects": Verb("app.cli.objects:objects", "List the catalogue, show an object, take an inventory."),
    "plan": Verb("app.cli.plan:plan", "Make a plan; list, show, approve and apply plans."),
    "policy": Verb("app.cli.policy:policy", "Show and set the rules that plans and moves obey."),
    "predict": Verb("app.cli.predict:predict", "Score rows of features with the model that serves."),
    "prices": Verb("app.cli.prices:prices", "List, show and change the price books that plans go by."),
    "replay": Verb("app.cli.replay:replay", "Show what every policy would have cost on a recorded trace."),
    "route": Verb("app.cli.route:route", "Ask where a read goes, and read."),
    "runs": Verb("app.cli.runs:runs", "Run the whole cycle, or a part, and watch its steps."),
    "serve": Verb("app.cli.serve:serve", "Run the API and the dashboard."),
    "sites": Verb("app.cli.sites:sites", "Register, probe and remove the buckets in which objects live."),
    "tokens": Verb("app.cli.tokens:tokens", "List, create and revoke the API's tokens."),
    "what-if": Verb("app.cli.what_if:what_if", "Show the plan under other prices, rules or reads."),
    "worker": Verb("app.cli.worker:worker", "Run a Celery worker, or check that workers consume."),
}


class LazyGroup(click.Group):
    """A group that knows its commands' names and help without importing them."""

    def list_commands(self, _ctx: click.Context) -> list[str]:
        """The verbs in alphabetical order."""
        return sorted(VERBS)

    def get_command(self, _ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of this name, imported now; None when there is none."""
        verb = VERBS.get(cmd_name)
        if verb is None:
            return None
        module, _, attribute = verb.target.partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def format_commands(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the overview."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, verb.help) for name, verb in sorted(VERBS.items())])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
def cli() -> None:
    """Foretide puts data where it should be before it is needed.

    Start with: foretide demo
    """
