"""The documentation is what the code is: generated parts are up to date, links lead somewhere, commands exist."""

import re
import shlex
from pathlib import Path

import click
import pytest

from app.cli.root import VERBS, cli
from docs.generate import PARTS, generated

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.glob("*.md"))]
FORBIDDEN = ("TODO", "FIXME", "pypi.", "files.pythonhosted", "/work/", "/root/", "/home/")


@pytest.mark.parametrize("file", PARTS)
def test_generated_parts_are_up_to_date(file):
    assert (DOCS / file).read_text() == generated(file), "run: .venv/bin/python -m docs.generate"


def test_each_state_has_its_sentence():
    part = generated("guarantees.md").partition("<!-- generated: states -->")[2].partition("<!-- end -->")[0]
    sentences = [text for text in re.findall(r"^\| [a-z_]+ \| (.*) \|$", part, re.MULTILINE) if text != "meaning"]
    assert len(sentences) > 30
    assert all(sentence.endswith(".") for sentence in sentences)


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_links_lead_to_files(page):
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_files_that_are_named_exist(page):
    named = re.findall(r"`((?:app|workers|ml|tests|bench|docs|deploy|migrations)/[\w./]+\.\w+)`", page.read_text())
    for name in named:
        assert (ROOT / name).exists(), name


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_commands_that_are_shown_exist_with_their_options(page):
    context = click.Context(cli)
    for line in re.findall(r"^(?:\$ )?(?:\./)?foretide (.+?)(?:\s+#.*)?$", page.read_text(), re.MULTILINE):
        words = shlex.split(line.partition(" | ")[0])
        assert words[0] in VERBS, line
        command = cli.get_command(context, words[0])
        if isinstance(command, click.Group) and words[1:2] and words[1] in command.commands:
            command = command.commands[words[1]]
        options = {name for parameter in command.params for name in parameter.opts + parameter.secondary_opts}
        takes_anything = command.context_settings.get("ignore_unknown_options")
        for word in words[1:]:
            if word == "--":
                break
            if word.startswith("-") and word != "-" and not takes_anything:
                assert word.partition("=")[0] in options, line


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_pages_hold_nothing_of_one_machine(page):
    text = page.read_text()
    assert not [word for word in FORBIDDEN if word in text]


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) < 250
