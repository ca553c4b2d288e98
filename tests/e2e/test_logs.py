"""Access logs through the command line: each request becomes an access once, and what cannot be read is named."""

import json
from datetime import UTC, datetime, timedelta

from app.errors import ExitCode


def test_a_log_is_ingested_once_and_its_bad_lines_are_named(foretide, tmp_path):
    file = tmp_path / "access.log"
    hour_ago = datetime.now(UTC) - timedelta(hours=1)
    line = f'1.2.3.4 - - [{hour_ago:%d/%b/%Y:%H:%M:%S} +0000] "GET /logs/%s HTTP/1.1" %d 7 "-" "agent"\n'
    file.write_text(line % ("a%20b", 200) + line % ("gone", 404) + "nonsense\n" + line % ("c", 206))
    sent = foretide("ingest", "nginx", str(file))
    assert sent.returncode == ExitCode.PARTIAL, sent.stderr
    assert sent.stdout == b"accepted 2, duplicates 0, rejected 1, passed over 1\n"
    assert b"line 3: not a line of nginx" in sent.stderr
    assert b"accepted 0, duplicates 2, rejected 1" in foretide("ingest", "nginx", str(file), "--again").stdout
    told = json.loads(foretide("ingest", "nginx", str(file), "--again", "--json").stdout)
    refused = {"file": str(file), "line": 3, "pointer": "", "detail": "not a line of nginx"}
    counts = {"files": 1, "skipped_files": 0, "lines": 4, "passed_over": 1, "uncounted": 0}
    assert told == {"accepted": 0, "duplicates": 2, "rejected": 1, "errors": [refused], **counts}
    other = foretide("ingest", "gcs-logs", str(file))
    assert (other.returncode, other.stdout) == (ExitCode.USAGE, b"")
    assert b"does not begin with a line of gcs-logs, but of nginx" in other.stderr


def test_what_a_count_tells_beyond_one_access_a_row_is_said_to_be_left_out(foretide, tmp_path):
    file = tmp_path / "daily.csv"
    day = (datetime.now(UTC) - timedelta(days=1)).date()
    file.write_text(f"date,object,bytes,count\n{day},daily/a,9,3\n{day},daily/b,9,\n")
    sent = foretide("ingest", "parquet", str(file))
    assert b"accepted 2" in sent.stdout
    assert b"each row is sent as one access: 2 more that count tells of are not" in sent.stderr
