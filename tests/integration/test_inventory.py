"""Inventories add what a bucket holds, exactly as a scan would have found it, and never undo what is known since."""

from __future__ import annotations

import csv
import gzip
import json
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

import duckdb
import pytest

from app.domain.roles import Role
from app.errors import Invalid
from app.lab.inventory import read_lines
from tests.integration.conftest import Api
from tests.world import World

SITE = "aws-eu"
ODD = ("plain.csv", "with space+plus.csv", "ü%25/x.csv")


def sent(api: Api, lines: list[dict[str, Any]], site: str = SITE, role: Role = Role.OPERATOR):
    body = b"\n".join(json.dumps(line).encode() for line in lines)
    return api.post(f"/v1/sites/{site}/inventory", role=role, data=body, content_type="application/x-ndjson")


def report(world: World, folder: Path, names: tuple[str, ...]) -> Path:
    """An S3 Inventory of these objects with the versions and markers that it also tells of, as its manifest."""
    rows = []
    for name in names:
        head = world.head(SITE, name)
        assert head
        pin = head.pin
        when = pin.last_modified.strftime("%Y-%m-%dT%H:%M:%S.000Z")
        key = quote_plus(world.key(name))
        rows.append(["bucket", key, "v2", "true", "false", pin.size, when, pin.etag, pin.storage_class])
        rows.append(["bucket", key, "v1", "false", "false", 1, when, "old", "STANDARD"])
    rows.append(["bucket", quote_plus(world.key("gone")), "v3", "true", "true", "", when, "", ""])
    rows.append(["bucket", quote_plus(world.key("folder/")), "v4", "true", "false", 0, when, "e", "STANDARD"])
    folder.mkdir()
    with gzip.open(folder / "part-1.csv.gz", "wt", newline="") as file:
        csv.writer(file, quoting=csv.QUOTE_ALL).writerows(rows)
    schema = "Bucket, Key, VersionId, IsLatest, IsDeleteMarker, Size, LastModifiedDate, ETag, StorageClass"
    manifest = {"fileFormat": "CSV", "fileSchema": schema, "files": [{"key": "inventory/data/part-1.csv.gz"}]}
    path = folder / "manifest.json"
    path.write_text(json.dumps(manifest))
    return path


def test_an_inventory_adds_objects_as_a_scan_would(make_world, api: Api, tmp_path: Path):
    world = make_world()
    for name in ODD:
        world.put(SITE, name, name.encode())
    lines = list(read_lines(report(world, tmp_path / "r", ODD)))
    assert sorted(line["key"] for line in lines) == sorted(map(world.key, ODD))

    assert sent(api, lines).json == {"accepted": 3, "duplicates": 0, "rejected": 0, "errors": []}
    assert {name: world.states(name) for name in ODD} == {name: {SITE: "serving"} for name in ODD}
    assert [world.object(name).size for name in ODD] == [len(name.encode()) for name in ODD]
    assert sent(api, lines).json["duplicates"] == 3
    scanned = world.scan(SITE)
    assert (scanned["objects"], scanned["new"], scanned["changed"]) == (3, 0, 0)


def test_an_old_inventory_undoes_nothing(make_world, api: Api, tmp_path: Path):
    world = make_world()
    world.put(SITE, "kept", b"old")
    lines = list(read_lines(report(world, tmp_path / "r", ("kept",))))
    world.put(SITE, "kept", b"rewritten since")
    world.scan(SITE)
    before = world.object("kept")
    assert sent(api, lines).json["duplicates"] == 1
    after = world.object("kept")
    assert (after.version, after.size) == (before.version, len(b"rewritten since"))


def test_lines_that_are_wrong_are_named_and_the_others_taken(make_world, api: Api):
    world = make_world()
    good = {"key": world.key("a"), "size": 3, "etag": '"abc"', "last_modified": "2026-11-01T00:00:00.500Z"}
    lines = [
        good,
        good | {"storage_class": "NO_SUCH"},
        {name: value for name, value in good.items() if name != "etag"},
        good | {"size": -1},
        good | {"last_modified": "2026-11-01T00:00:00"},
        good | {"key": "a\x00b"},
        good | {"key": "foretide/accesses/day=2026-11-01/accesses.parquet"},
        good | {"key": world.key("b"), "storage_class": "GLACIER_IR"},
    ]
    reply = sent(api, lines).json
    assert (reply["accepted"], reply["duplicates"], reply["rejected"]) == (2, 0, 5)
    assert [(error["line"], error["pointer"]) for error in reply["errors"]] == [
        (2, "/storage_class"), (3, "/etag"), (4, "/size"), (5, "/last_modified"), (6, "/key"),
    ]  # fmt: skip
    replica = world.replicas("a")[SITE]
    assert (replica.pin["etag"], replica.pin["last_modified"]) == ("abc", "2026-11-01T00:00:00+00:00")
    assert world.replicas("b")[SITE].storage_class == "GLACIER_IR"


def test_who_may_not_and_what_is_not_there(make_world, api: Api):
    make_world()
    assert sent(api, [], role=Role.VIEWER).status_code == 403
    assert sent(api, [], site="nowhere").status_code == 404
    assert api.post(f"/v1/sites/{SITE}/inventory", role=Role.OPERATOR, json=[]).status_code == 415


def test_parquet_is_read_and_what_lacks_etags_is_refused(tmp_path: Path):
    path = tmp_path / "it's.parquet"
    connection = duckdb.connect()
    connection.execute(
        "create table t as select 'k' as key, 5 as size, 'e' as e_tag, timestamptz '2026-11-01 00:00:00+00'"
        " as last_modified_date, 'STANDARD' as storage_class"
    )
    connection.execute(f"copy t to '{str(path).replace(chr(39), chr(39) * 2)}'")
    assert list(read_lines(path)) == [
        {
            "key": "k", "size": 5, "etag": "e", "last_modified": "2026-11-01T00:00:00+00:00",
            "storage_class": "STANDARD",
        }
    ]  # fmt: skip
    bare = tmp_path / "bare.csv"
    bare.write_text("key,size\na,1\n")
    with pytest.raises(Invalid, match="no column etag nor modified"):
        list(read_lines(bare))
