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
    "up": Verb("app.cli.up:up", "Run the services on a state folder that survives restarts."),
    "test": Verb("app.cli.test:test", "Run the linters and the test suite."),
    "doctor": Verb("app.cli.doctor:doctor", "Say what is wrong and how to mend it."),
    "db": Verb("app.cli.db:db", "Bring the database's schema up to date."),
}


class LazyGroup(click.Group):
    """A group that knows its commands' names and help without importing them."""

    def list_commands(self, _ctx: click.Context) -> list[str]:
        """The verbs, in the order of a newcomer's day."""
        return list(VERBS)

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
            formatter.write_dl([(name, verb.help) for name, verb in VERBS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
def cli() -> None:
    """Foretide puts data where it should be before it is needed.

    Start with: foretide demo
    """
