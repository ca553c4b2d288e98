"""Writes the parts of the documentation that the code already knows: `.venv/bin/python -m docs.generate`.

Each stands between two comments in its file; tests/test_docs.py compares them with what is generated.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from enum import StrEnum
from pathlib import Path

import click

from app.cli.root import VERBS, cli
from app.domain import states
from app.domain.tasks import SCHEDULES, TASKS
from app.errors import ExitCode, ForetideError
from app.settings import PROJECT_ROOT, Settings
from bench.run import BENCHMARKS

DOCS = PROJECT_ROOT / "docs"
EXIT_MEANINGS = {
    ExitCode.OK: "Done.",
    ExitCode.FAILED: "Failed.",
    ExitCode.USAGE: "The command or the request is not valid; or it needs --yes without a terminal.",
    ExitCode.NOT_FOUND: "There is no such thing.",
    ExitCode.CONFLICT: "The state of the thing does not allow it, or it has changed since it was read.",
    ExitCode.RETRYABLE: "Something does not answer: the same command may succeed later.",
    ExitCode.POLICY: "A policy, a rule or the token's role forbids it.",
    ExitCode.PARTIAL: "Done in part, such as an ingest with refused lines.",
    ExitCode.LIMIT: "A limit was reached: too many or too large requests, or a full queue.",
    ExitCode.TIMEOUT: "The time given by --timeout is over; the work goes on.",
    ExitCode.CHANGES: "`plan --detailed-exitcode`: the plan holds changes. `db current`: the schema is not the newest.",
}


def settings() -> str:
    """A row for each setting."""
    rows = ["| variable | default | meaning |", "| --- | --- | --- |"]
    for name, field in Settings.model_fields.items():
        default = field.default
        shown = ".foretide" if isinstance(default, Path) else str(default)
        rows.append(f"| `FORETIDE_{name.upper()}` | {f'`{shown}`' if shown else ''} | {field.description} |")
    return "\n".join(rows)


def exit_codes() -> str:
    """A row for each exit code."""
    rows = ["| code | meaning |", "| --- | --- |"]
    return "\n".join([*rows, *(f"| {code.value} | {EXIT_MEANINGS[code]} |" for code in ExitCode)])


def verbs() -> str:
    """A row for each verb, and below it each verb of a group."""
    context = click.Context(cli)
    rows = ["| command | what it does |", "| --- | --- |"]
    for name in sorted(VERBS):
        rows.append(f"| `foretide {name}` | {VERBS[name].help} |")
        below = getattr(cli.get_command(context, name), "commands", {})
        rows += [f"| `foretide {name} {verb}` | {_first_line(below[verb].help)} |" for verb in sorted(below)]
    return "\n".join(rows)


def _first_line(text: str | None) -> str:
    return (text or "").strip().split("\n\n")[0].replace("\n", " ").replace("|", "\\|")


def state_sentences() -> str:
    """Every state of every thing with its sentence, read from the source: enums keep no docstrings of members."""
    source = Path(states.__file__).read_text()
    lines: list[str] = []
    for name, kind in vars(states).items():  # _J and _M are short names of two of them
        if isinstance(kind, type) and issubclass(kind, StrEnum) and kind is not StrEnum and not name.startswith("_"):
            block = source[source.index(f"class {name}(") :]
            lines += ["", f"**{_words(name)}**", "", "| state | meaning |", "| --- | --- |"]
            lines += [f"| {member.value} | {_sentence(block, member.name)} |" for member in kind]
    return "\n".join(lines).strip()


def _words(name: str) -> str:
    return re.sub(r"(?<!^)([A-Z])", r" \1", name.removesuffix("State")).capitalize()


def _sentence(block: str, member: str) -> str:
    found = re.search(rf'^    {member} = [^\n]*\n    """([^"]+)"""', block, re.MULTILINE)
    return " ".join(found.group(1).split()) if found else ""


def errors() -> str:
    """A row for each class of error that the API may answer."""
    rows = ["| slug | status | exit code | meaning |", "| --- | --- | --- | --- |"]
    for kind in sorted(set(_below(ForetideError)), key=lambda kind: (kind.status, kind.slug)):
        meaning = " ".join((kind.__doc__ or "").split())
        rows.append(f"| {kind.slug} | {kind.status} | {kind.exit_code.value} | {meaning} |")
    return "\n".join(rows)


def _below(kind: type[ForetideError]) -> Iterator[type[ForetideError]]:
    for child in kind.__subclasses__():
        if child.__module__ == ForetideError.__module__:
            yield child
            yield from _below(child)


def tasks() -> str:
    """A row for each kind of job."""
    rows = ["| kind | queue | soft limit | hard limit | rung by beat |", "| --- | --- | --- | --- | --- |"]
    for name, spec in TASKS.items():
        every = [f"{Settings.model_fields[s.every].default:g} s" for s in SCHEDULES.values() if s.kind is name]
        rows.append(f"| {name} | {spec.queue} | {spec.soft_limit_s} s | {spec.hard_limit_s} s | {', '.join(every)} |")
    return "\n".join(rows)


def model_transitions() -> str:
    """A row for each state of a version, with the states that it may go to."""
    rows = ["| from | to |", "| --- | --- |"]
    for old, new in states.MODEL_TRANSITIONS.items():
        rows.append(f"| {old} | {', '.join(state for state in states.ModelState if state in new)} |")
    return "\n".join(rows)


def benchmarks() -> str:
    """A row for each benchmark."""
    rows = ["| name | what it measures |", "| --- | --- |"]
    return "\n".join([*rows, *(f"| `{name}` | {text} |" for name, text in BENCHMARKS.items())])


PARTS: dict[str, dict[str, Callable[[], str]]] = {
    "settings.md": {"settings": settings},
    "cli.md": {"exit codes": exit_codes, "verbs": verbs},
    "guarantees.md": {"states": state_sentences, "tasks": tasks},
    "concepts.md": {"errors": errors, "model transitions": model_transitions},
    "benchmarks.md": {"benchmarks": benchmarks},
}


def generated(file: str) -> str:
    """The file's text with every generated part as the code has it now. Raises ValueError when one has no place."""
    text = (DOCS / file).read_text()
    for name, make in PARTS[file].items():
        before, begin, rest = text.partition(f"<!-- generated: {name} -->\n")
        _, end, after = rest.partition("<!-- end -->")
        if not (begin and end):
            raise ValueError(f"{file} has no place for the part {name}")
        text = f"{before}{begin}{make()}\n{end}{after}"
    return text


def main() -> None:
    """Writes every file anew."""
    for file in PARTS:
        (DOCS / file).write_text(generated(file))


if __name__ == "__main__":
    main()
