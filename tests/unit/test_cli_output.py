"""What commands print, where no API is needed for it."""

import gzip
import json
import os
import pty
import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from app.__main__ import main
from app.cli import models
from app.cli.lines import unpacked
from app.cli.output import money, print_rows, safe, size
from app.cli.plan import left_out
from app.cli.policy import changed
from app.cli.prices import read_book
from app.cli.root import VERBS, cli
from app.cli.session import agreed
from app.errors import ExitCode, Invalid
from app.settings import PROJECT_ROOT

HOSTILE = {
    "\x1b[2Jgone": "\\x1b[2Jgone",
    "a\u202etxt.exe": "a\\u202etxt.exe",
    "line\nbreak\rtab\t": "line\\nbreak\\rtab\\t",
    "zero\u200bwidth": "zero\\u200bwidth",
    "lone\ud800surrogate": "lone\\ud800surrogate",
    "<script>é🙂 [red]": "<script>é🙂 [red]",
    "\u2066isolate\u2069": "\\u2066isolate\\u2069",
    "c1\x9bcsi": "c1\\x9bcsi",
}


@pytest.mark.parametrize(("name", "shown"), HOSTILE.items())
def test_hostile_names_are_escaped(name, shown):
    assert safe(name) == shown


def test_what_is_unknown_is_a_dash_and_never_a_zero():
    assert (safe(None), money(None), size(None)) == ("–", "–", "–")


def test_small_and_large_money():
    assert [money(v) for v in ("1234.5", "-0.0001234", "0", 412.1)] == ["$1,234.50", "-$0.0001234", "$0.00", "$412.10"]


def test_sizes():
    assert [size(v) for v in (0, 1023, 1024, 5 * 2**30)] == ["0 B", "1023 B", "1.0 KiB", "5.0 GiB"]


def test_without_a_terminal_rows_are_lines_of_fields(capsys):
    print_rows([{"key": "a\nb", "n": 1}], {"KEY": "key", "N": "n"}, as_json=False, nothing="none")
    assert capsys.readouterr().out == "KEY\tN\na\\nb\t1\n"


def test_json_is_all_that_stands_on_stdout(capsys):
    print_rows([{"key": "ü\x1b"}], {"KEY": "key"}, as_json=True, nothing="none")
    assert json.loads(capsys.readouterr().out) == [{"key": "ü\x1b"}]
    print_rows([], {"KEY": "key"}, as_json=True, nothing="none")
    assert json.loads(capsys.readouterr().out) == []


def test_on_a_terminal_a_table_shows_hostile_names_whole_and_harmless():
    code = (
        "from app.cli.output import print_rows;"
        "print_rows([{'k': '\\x1b[31m[bold]x[/bold]'}], {'KEY': 'k'}, as_json=False, nothing='')"
    )
    controller, terminal = pty.openpty()
    subprocess.run([sys.executable, "-c", code], stdout=terminal, check=True, cwd=PROJECT_ROOT)
    os.close(terminal)
    shown = os.read(controller, 10_000).decode()
    os.close(controller)
    assert "\\x1b[31m[bold]x[/bold]" in shown
    assert "\x1b[31m" not in shown


@pytest.mark.parametrize(("columns", "is_table"), [("80", False), ("200", True)])
def test_what_is_too_wide_for_whole_words_is_a_line_a_field(columns, is_table):
    code = (
        "from app.cli.output import print_rows;"
        "row = {f'field{n}': f'value-{n}-' + 'x' * 8 for n in range(9)} | {'empty': ''};"
        "print_rows([row], {name.upper(): name for name in row}, as_json=False, nothing='')"
    )
    controller, terminal = pty.openpty()
    environment = {**os.environ, "COLUMNS": columns, "LINES": "50"}
    subprocess.run([sys.executable, "-c", code], stdout=terminal, check=True, cwd=PROJECT_ROOT, env=environment)
    os.close(terminal)
    lines = os.read(controller, 10_000).decode().splitlines()
    os.close(controller)
    assert ("FIELD8  value-8-xxxxxxxx" in lines) is not is_table
    assert any("value-0-xxxxxxxx" in line and "value-8-xxxxxxxx" in line for line in lines) is is_table
    assert any("EMPTY" in line for line in lines) is is_table


@pytest.mark.parametrize("content", [gzip.compress(b"{}\n" * 9)[:-9], b"\x1f\x8b\x08\x00garbage"])
def test_a_packed_file_that_is_cut_off_is_not_read_as_if_it_were_whole(tmp_path, content):
    path = tmp_path / "accesses.ndjson.gz"
    path.write_bytes(content)
    with path.open("rb") as file, pytest.raises(Invalid, match=r"accesses\.ndjson\.gz cannot be read to its end"):
        list(unpacked(file))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["replay", "trace.csv", "--horizon", "nan"], "nan is not a finite number"),
        (["replay", "trace.csv", "--read-fraction", "nan"], "nan is not a finite number"),
        (["replay", "trace.csv", "--report", "no/such/folder/page.html"], "no/such/folder is no folder"),
        (["assess", "--logs", "trace.csv", "--report", "no/such/folder/page.html"], "no/such/folder is no folder"),
        (["what-if", "--reads", "inf"], "inf is not a finite number"),
        (["plan", "create", "--sla-ms", "nan"], "nan is not a finite number"),
        (["sites", "change", "eu", "--max-request-rate", "nan"], "nan is not a finite number"),
        (["sites", "change", "eu", "--capacity", "9" * 5000], "bytes are expected"),
    ],
)
def test_arguments_that_cannot_be_are_refused_before_any_work(arguments, said):
    result = CliRunner().invoke(cli, arguments)
    assert (result.exit_code, said in result.stderr) == (ExitCode.USAGE, True), result.stderr


def test_a_plan_says_which_objects_it_could_not_look_at():
    first = [{"key": "a", "reason": "the price book of eu has no storage class COLD"}]
    found = {"solver": {"unplanned": {"objects": 3, "first": first}}}
    assert left_out(found) == ["3 objects are left out, such as a: the price book of eu has no storage class COLD"]
    assert left_out({"solver": {"unplanned": {"objects": 0, "first": [], "moving": {}}}}) == []
    moving = {"solver": {"unplanned": {"objects": 0, "first": [], "moving": {"a move of it is under way": 2}}}}
    assert left_out(moving) == ["2 objects are left out: a move of it is under way"]
    assert left_out({"solver": {}}) == [], "a plan of peaks looks at those that are due alone"


def test_without_a_terminal_and_yes_it_fails_rather_than_hangs():
    @click.command()
    def command():
        agreed("delete it", yes=False)

    result = CliRunner().invoke(command)
    assert result.exit_code == ExitCode.USAGE
    assert "--yes" in result.stderr


def test_dry_run_says_what_would_be_done_and_yes_does_not_ask(capsys):
    assert not agreed("delete it", yes=True, dry_run=True)
    assert "Would delete it" in capsys.readouterr().err
    assert agreed("delete it", yes=True)


@pytest.mark.parametrize("content", [b"[]", b"\xff\xfe", b"{", b'"aws"'])
def test_a_file_that_is_no_price_book_is_a_usage_error(tmp_path, content):
    path = tmp_path / "book.json"
    path.write_bytes(content)
    with pytest.raises(click.UsageError, match=r"book\.json"):
        read_book(str(path))


def test_policy_fields_are_set_by_path():
    before = {"default": {"rf": 1}}
    assert changed(before, ("default.rf=2", "default.readers=routed")) == {"default": {"rf": 2, "readers": "routed"}}
    assert before == {"default": {"rf": 1}}
    with pytest.raises(click.UsageError):
        changed(before, ("rf",))


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_each_verb_loads_and_has_help_in_one_line(verb):
    context = click.Context(cli)
    command = cli.get_command(context, verb)
    assert command is not None
    assert command.help, verb
    assert "\n" not in VERBS[verb].help
    for name, below in getattr(command, "commands", {}).items():
        assert below.help, f"{verb} {name}"


def test_the_overview_is_sorted_with_a_line_each():
    shown = subprocess.run(
        [sys.executable, "-m", "app", "--help"], cwd=PROJECT_ROOT, capture_output=True, text=True, check=True
    )
    listed = [line.split()[0] for line in shown.stdout.split("Commands:\n")[1].splitlines()]
    assert listed == sorted(VERBS)


def test_help_loads_no_library_that_it_does_not_need():
    code = "import sys; from app.__main__ import main; main(['--help']); print(*sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT_ROOT, capture_output=True, text=True, check=True)
    assert not {"httpx", "rich", "pydantic", "sqlalchemy", "celery", "numpy"} & set(done.stderr.split())


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["no-such-verb"], 2),
        (["jobs", "show"], 2),
        (["jobs", "show", "x"], 2),
        (["--help"], 0),
        (["jobs", "--help"], 0),
    ],
)
def test_usage_errors_exit_with_2(arguments, code, capsys):
    assert main(arguments) == code
    capsys.readouterr()


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_names_the_command(shell, capsys):
    assert main(["completion", shell]) == 0
    assert "_FORETIDE_COMPLETE" in capsys.readouterr().out


def test_models_of_placement_are_told_in_dollars_by_site_and_others_by_their_auc():
    show = models.COLUMNS["BASELINES"]
    assert callable(show)
    tier = {"baselines": {"recency": {"auc": 0.877}, "logit": {"auc": None}}}
    assert show(tier) == "recency 0.877, logit None"
    sites = {"metrics": {"aws-eu": {"learned": 4.4}}, "baselines": {"aws-eu": {"stay": 7.0, "lifecycle_30_90": 5.4}}}
    assert show(sites).startswith("aws-eu: learned $4.4")
    assert "stay $7" in show(sites)


@pytest.mark.parametrize("url", ["notaurl", "localhost:8000", "http://", "ftp://x", "http://x:99999", "http://[::1"])
def test_an_address_that_is_none_is_told_by_its_setting(url):
    done = subprocess.run(
        [sys.executable, "-m", "app", "jobs", "list"],
        cwd=PROJECT_ROOT, capture_output=True, text=True, env=os.environ | {"FORETIDE_URL": url}, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1)
    assert done.stderr.startswith("error: FORETIDE_URL: ")
