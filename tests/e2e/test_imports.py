"""Files through the command line: however an import ends and is run again, each line counts once."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import text

from app.db.session import session_scope
from app.devstack.services import Endpoints
from app.errors import ExitCode
from app.settings import PROJECT_ROOT

Run = Callable[..., "subprocess.CompletedProcess[bytes]"]


def counted(prefix: str) -> int:
    """Accesses of keys that begin so, as they stand in the database."""
    query = text("select count(*) from access join object on object.id = object_id where starts_with(key, :prefix)")
    with session_scope() as session:
        return int(session.execute(query, {"prefix": prefix}).scalar_one())


def log(path: Path, prefix: str, lines: int) -> Path:
    hour_ago = datetime.now(UTC) - timedelta(hours=1)
    head = f"1.2.3.4 - - [{hour_ago:%d/%b/%Y:%H:%M:%S} +0000]"
    path.write_text("".join(f'{head} "GET /{prefix}/{number % 99} HTTP/1.1" 200 7\n' for number in range(lines)))
    return path


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state" / "imports.ndjson"


def test_what_was_imported_is_not_read_again_and_counts_once_where_it_is(foretide: Run, tmp_path: Path, state: Path):
    file = log(tmp_path / "access.log", "twice", 300)
    arguments = ("ingest", "nginx", str(file), "--state", str(state))
    assert foretide(*arguments).stdout == b"accepted 300, duplicates 0, rejected 0\n"
    again = foretide(*arguments)
    assert again.stdout == b"accepted 0, duplicates 0, rejected 0\n"
    assert b"1 files were imported before" in again.stderr
    assert foretide(*arguments, "--again").stdout == b"accepted 0, duplicates 300, rejected 0\n"
    copy = tmp_path / "copy.log"
    copy.write_bytes(file.read_bytes())
    assert foretide("ingest", "apache", str(copy)).stdout == b"accepted 0, duplicates 300, rejected 0\n"
    with file.open("a") as grown:
        grown.write(copy.read_text().splitlines()[0].replace("twice/0", "twice/more") + "\n")
    assert b"accepted 1," in foretide(*arguments).stdout
    assert counted("twice/") == 301


def test_folders_patterns_and_stdin(foretide: Run, tmp_path: Path):
    for name in "ab":
        log(tmp_path / f"{name}.log", f"folder-{name}", 10)
    assert b"accepted 20" in foretide("ingest", "nginx", str(tmp_path)).stdout
    assert b"duplicates 10" in foretide("ingest", "nginx", f"{tmp_path}/a*.log", "--again").stdout
    piped = foretide("ingest", "nginx", "-", stdin=(tmp_path / "b.log").read_bytes())
    assert piped.stdout == b"accepted 0, duplicates 10, rejected 0\n"
    absent = foretide("ingest", "nginx", f"{tmp_path}/c*.log")
    assert (absent.returncode, b"there is no file" in absent.stderr) == (ExitCode.USAGE, True)


def test_refused_lines_are_written_to_a_file_and_end_a_strict_import(foretide: Run, tmp_path: Path, state: Path):
    file = log(tmp_path / "access.log", "refused", 3)
    future = datetime.now(UTC) + timedelta(days=2)
    with file.open("a") as more:
        more.write("non\x1bsense\n")
        more.write(f'1.2.3.4 - - [{future:%d/%b/%Y:%H:%M:%S} +0000] "GET /refused/x HTTP/1.1" 200 7\n')
    arguments = ("ingest", "nginx", str(file), "--state", str(state))
    strict = foretide(*arguments, "--strict")
    assert (strict.returncode, strict.stdout) == (ExitCode.USAGE, b"")
    assert b"line 4: not a line of nginx" in strict.stderr
    dry = foretide(*arguments, "--dry-run")
    assert dry.stdout == b"4 accesses, rejected 1, passed over 0; nothing was sent\n"
    assert counted("refused/") == 0
    sent = foretide(*arguments, "--rejected", str(tmp_path / "rejected.ndjson"))
    assert (sent.returncode, sent.stdout) == (ExitCode.PARTIAL, b"accepted 3, duplicates 0, rejected 2\n")
    assert b"line 5: /ts the time is in the future" in sent.stderr
    told = {each["line"]: each for each in map(json.loads, (tmp_path / "rejected.ndjson").read_text().splitlines())}
    assert (told[4]["pointer"], told[4]["text"]) == ("", "non\x1bsense")
    assert (told[5]["pointer"], json.loads(told[5]["text"])["key"]) == ("/ts", "refused/x")


def killed(running: Endpoints, *arguments: str) -> None:
    """Runs the command line and kills it once it has sent something."""
    own = {"FORETIDE_URL": running.url, "FORETIDE_TOKEN": running.token}
    started = subprocess.Popen([sys.executable, "-m", "app", *arguments], cwd=PROJECT_ROOT, env=os.environ | own)
    state = Path(arguments[arguments.index("--state") + 1])
    deadline = time.monotonic() + 60
    while not state.is_file() and started.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.002)
    started.send_signal(signal.SIGKILL)
    started.wait()


def test_an_import_that_was_killed_goes_on_and_counts_each_line_once(
    foretide: Run, running: Endpoints, tmp_path: Path, state: Path
):
    files = [str(log(tmp_path / f"{number}.log", f"killed-{number}", 40_000)) for number in range(3)]
    arguments = ("ingest", "nginx", *files, "--state", str(state))
    killed(running, *arguments)
    assert 0 < counted("killed-") <= 120_000
    done = json.loads(foretide(*arguments, "--json").stdout)
    assert done["accepted"] + done["duplicates"] <= 120_000
    assert counted("killed-") == 120_000
    assert json.loads(foretide(*arguments, "--again", "--json").stdout)["duplicates"] == 120_000


def test_an_api_that_is_away_is_exit_code_5_and_says_how_to_go_on(foretide: Run, tmp_path: Path, monkeypatch):
    file = log(tmp_path / "access.log", "away", 3)
    command = [sys.executable, "-m", "app", "ingest", "nginx", str(file), "--state", str(tmp_path / "state")]
    away = {"FORETIDE_URL": "http://127.0.0.1:9", "FORETIDE_TOKEN": "x"}
    ended = subprocess.run(command, cwd=PROJECT_ROOT, env=os.environ | away, capture_output=True, check=False)
    assert ended.returncode == ExitCode.RETRYABLE
    assert b"the same command goes on behind what was taken" in ended.stderr


def test_rows_of_a_table_count_once(foretide: Run, tmp_path: Path, state: Path):
    day = (datetime.now(UTC) - timedelta(days=1)).date()
    rows = [f"{day},table/{number % 7},9" for number in range(50)]
    file = tmp_path / "daily.csv"
    file.write_text("\n".join(["date,object,bytes", *rows, f"{day},,9"]) + "\n")
    arguments = ("ingest", "parquet", str(file), "--state", str(state))
    first = foretide(*arguments)
    assert first.stdout == b"accepted 50, duplicates 0, rejected 1\n"
    assert b"line 52: object is empty" in first.stderr
    assert foretide(*arguments, "--again").stdout == b"accepted 0, duplicates 50, rejected 1\n"
    assert counted("table/") == 50


def test_lines_of_the_api_itself_count_once(foretide: Run, tmp_path: Path):
    now = (datetime.now(UTC) - timedelta(hours=1)).isoformat()
    line = json.dumps({"ts": now, "key": "lines/a", "op": "GET"})
    piped = f"{line}\n{line}\n".encode()
    assert foretide("ingest", "ndjson", "-", stdin=piped).stdout == b"accepted 2, duplicates 0, rejected 0\n"
    assert foretide("ingest", "ndjson", "-", stdin=piped).stdout == b"accepted 0, duplicates 2, rejected 0\n"
