"""The savings report: from logs, an inventory, or both; read-only, with ranges that hold what they should."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import duckdb
import numpy as np
import pytest
from click.testing import CliRunner

from app.cli.assess import assess
from app.domain.price_books import AWS
from app.domain.prices import GB
from app.errors import Invalid
from app.lab.assessment import from_inventory, from_logs, joined, saving, thinned, with_inventory
from app.lab.inventory import Inventory, read_inventory
from app.lab.traces import read_trace

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
DAYS = 120


def micros(day):
    return int((BEGIN + timedelta(days=day)).timestamp() * 1e6)


@pytest.fixture
def logs(tmp_path):
    """Two logs: 20 objects read daily, 20 only in the first days."""
    paths = []
    for number, (first, last) in enumerate(((0, DAYS // 2), (DAYS // 2, DAYS))):
        lines = ["ts,object,op,bytes,size"]
        for day in range(first, last):
            at = (BEGIN + timedelta(days=day, hours=5)).isoformat()
            lines += [f"{at},busy/{n},GET,{GB},{GB}" for n in range(20)]
            lines += [f"{at},idle/{n},GET,{GB},{GB}" for n in range(20)] if day < 2 else []
        paths.append(tmp_path / f"log{number}.csv")
        paths[-1].write_text("\n".join(lines))
    return paths


@pytest.fixture
def inventory(tmp_path):
    path = tmp_path / "inventory.csv"
    rows = [f"idle/{n},{GB},2025-06-01T00:00:00Z,STANDARD" for n in range(20)]
    rows += [f"never/{n},{GB},2025-06-01T00:00:00Z,STANDARD_IA" for n in range(30)]
    path.write_text("\n".join(["Key,Size,LastModifiedDate,StorageClass", *rows, "folder/,0,,", "broken,,,"]))
    return path


def policy(document, name):
    (found,) = [row for row in document["policies"] if row["name"] == name]
    return found


def test_several_logs_are_one_trace_in_order(logs):
    one, two = (read_trace(path) for path in logs)
    both = joined([two, one])
    assert len(both) == len(one) + len(two)
    assert (np.diff(both.ts) >= 0).all()
    assert {both.keys[index] for index in both.object[both.ts < micros(1)]} == set(one.keys)
    assert joined([one]) is one


def test_an_inventory_adds_what_was_never_read_and_reads_nothing(logs, inventory):
    trace, listed = joined([read_trace(path) for path in logs]), read_inventory(inventory)
    whole = with_inventory(trace, listed)
    assert set(whole.keys) - set(trace.keys) == {f"never/{n}" for n in range(30)}
    assert int(whole.count.sum()) == len(trace)
    assert whole.bytes_read.sum() == trace.bytes_read.sum()
    assert (whole.ts[0], whole.ts[-1]) == (trace.ts[0], trace.ts[-1])


def test_logs_show_what_would_be_saved_beside_the_baselines(logs, inventory):
    trace = joined([read_trace(path) for path in logs])
    alone = from_logs(trace, AWS)
    ours = policy(alone, "foretide")
    assert alone["today"] is None
    assert 0 < ours["saves_percent"] <= policy(alone, "clairvoyant")["saves_percent"] + 1e-9
    assert ours["low_percent"] <= ours["saves_percent"] <= ours["high_percent"]
    assert ours["usd_a_month"] == pytest.approx(alone["all_hot_usd_a_month"] - ours["saves_usd_a_month"])
    hot = 40 * 0.023 + 20 * 30 * 0.0004 / 1000
    assert alone["all_hot_usd_a_month"] == pytest.approx(hot, rel=1e-3)
    more = from_logs(trace, AWS, read_inventory(inventory))
    assert more["objects"] == 70
    assert policy(more, "foretide")["saves_usd_a_month"] > ours["saves_usd_a_month"]
    assert {row["class"]: row["objects"] for row in more["today"]["classes"]} == {"STANDARD": 20, "STANDARD_IA": 30}
    assert any("2 lines of the inventory passed over" in line for line in more["assumed"])


def test_too_many_objects_are_drawn_from_and_scaled(logs):
    trace = joined([read_trace(path) for path in logs])
    few, share = thinned(trace, most=10 * DAYS)
    assert (len(few.keys), share) == (10, 0.25)
    assert set(few.keys) < set(trace.keys)
    assert int(few.object.max()) < 10
    assert thinned(trace) == (trace, 1.0)


def test_an_inventory_alone_gives_a_range_by_reads(inventory):
    listed = read_inventory(inventory)
    document = from_inventory(listed, AWS, micros(0))
    never, *read = document["scenarios"]
    assert never["to_class"]["GLACIER_IR"] == 50
    assert never["saves_usd_a_month"] == pytest.approx(
        20 * (0.023 - 0.004) + 30 * (0.0125 - 0.004) - (20 * 0.0214 + 30 * 0.031) / 1000 / 3 - 30 * 0.01 / 3, rel=0.01
    )
    savings = [row["saves_usd_a_month"] for row in document["scenarios"]]
    assert savings[0] > savings[1] > savings[2]
    assert all(gained >= 0 for gained in savings), "what does not pay stays"
    assert document["range"] == {"low_usd_a_month": min(savings), "high_usd_a_month": max(savings)}
    assert read[-1]["to_class"]["STANDARD_IA"] == 0
    frozen = from_inventory(listed, AWS, micros(0), archives=True)["scenarios"][0]
    assert frozen["to_class"]["DEEP_ARCHIVE"] == 50
    odd = from_inventory(replace(listed, storage_class=["REDUCED"] * 50), AWS, micros(0))
    assert any("REDUCED" in line for line in odd["assumed"])


def test_the_range_holds_the_true_share_nine_times_in_ten():
    chance, held = np.random.default_rng(5), 0
    for seed in range(60):
        before = chance.gamma(2.0, 1.0, 400)
        after = before * np.where(chance.random(400) < 0.5, 0.4, 1.0)
        found = saving(before, after, 1.0, seed)
        held += found.low_percent <= 30.0 <= found.high_percent
    assert 45 <= held <= 60
    nothing = saving(np.zeros(3), np.zeros(3), 1.0)
    assert (nothing.usd, nothing.percent) == (0.0, 0.0)


@pytest.mark.parametrize("kind", ["CSV", "Parquet"])
def test_a_manifest_of_s3_inventory_is_read(tmp_path, kind):
    schema = "Bucket, Key, VersionId, IsLatest, IsDeleteMarker, Size, LastModifiedDate, StorageClass"
    name = {"CSV": "part.csv.gz", "Parquet": "part.parquet"}[kind]
    (tmp_path / "data").mkdir()
    if kind == "CSV":
        rows = [
            '"b","a%20b.txt","v2","true","false","10","2026-01-01T00:00:00.000Z","STANDARD"',
            '"b","a%20b.txt","v1","false","false","99","2025-01-01T00:00:00.000Z","STANDARD"',
            '"b","gone","v3","true","true","","2026-01-01T00:00:00.000Z",""',
        ]
        (tmp_path / "data" / name).write_bytes(gzip.compress("\n".join(rows).encode()))
    else:
        duckdb.sql(
            "select 'b' as bucket, 'a b.txt' as key, 10 as size, timestamptz '2026-01-01 00:00:00Z' as "
            "last_modified_date, 'STANDARD' as storage_class"
        ).write_parquet(str(tmp_path / "data" / name))
    manifest = {"fileFormat": kind, "fileSchema": schema, "files": [{"key": f"x/data/{name}"}]}
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    found = read_inventory(tmp_path / "manifest.json")
    assert (found.keys, found.size.tolist(), found.storage_class) == (["a b.txt"], [10], ["STANDARD"])
    assert found.modified.tolist() == [micros(0)]
    (tmp_path / "data" / name).unlink()
    with pytest.raises(Invalid, match="not beside it"):
        read_inventory(tmp_path / "manifest.json")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a,b\n1,2\n", "no column key nor size"),
        ("key,size\nfolder/,0\n", "no object with a size"),
        ("", "no column key nor size"),
    ],
)
def test_what_is_no_inventory_is_refused(tmp_path, text, told):
    path = tmp_path / "x.csv"
    path.write_text(text)
    with pytest.raises(Invalid, match=told):
        read_inventory(path)
    with pytest.raises(Invalid, match="there is no file"):
        read_inventory(tmp_path / "none.csv")


def run(*arguments):
    return CliRunner().invoke(assess, [str(word) for word in arguments])


def test_the_command_prints_a_table_json_and_a_page(logs, inventory, tmp_path):
    both = [part for path in logs for part in ("--logs", path)]
    told = run(*both, "--inventory", inventory)
    assert told.exit_code == 0, told.output
    assert "foretide saves $" in told.output
    assert "lifecycle_tuned" in told.output
    report = tmp_path / "<out>.html"
    shown = run("--inventory", inventory, "--json", "--report", report)
    assert json.loads(shown.stdout)["kind"] == "inventory"
    page = report.read_text()
    assert "<svg" in page
    assert "http" not in page.replace("http://www.w3.org", "")
    assert run("--inventory", inventory).exit_code == 0
    for wrong in ((), ("--inventory", inventory, "--site", "aws-eu")):
        assert run(*wrong).exit_code == 2


def test_a_page_of_hostile_names_is_escaped(tmp_path):
    listed = Inventory(["<script>"], np.array([GB]), np.array([0]), ["<b>"])
    from app.lab.assessment_page import page

    made = page(from_inventory(listed, AWS, micros(0)), "<i>")
    assert "<b>" not in made
    assert "<i>" not in made
    assert "&lt;b&gt;" in made
