"""Learning sees the world of each time: what has ended since, what came back, and sizes as they were."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
from sqlalchemy import select, text
from sqlalchemy.orm import Session

from app.db import accesses, ingest, observations, partitions, reports, sites
from app.db.ingest import Block
from app.db.session import session_scope
from app.db.tables import Object, ObjectFormer, Replica
from app.domain.states import ObjectState, ReplicaState
from ml import dataset, tiers
from ml.dataset import Part
from ml.features import NAMES
from ml.history import DAY, HOUR, STAYS, Catalogue, History
from tests.integration.test_plans import add_sites

NOW = datetime(2026, 11, 20, tzinfo=UTC)
AWS = "aws-eu"
Line = tuple[datetime, str, str]
"""When, of which key, and what."""


def furnish(session: Session, keys: list[str]) -> None:
    """Objects with one copy each."""
    site_id = add_sites(session)[AWS]
    things = [Object(key=key, state=ObjectState.PRESENT, size=1000) for key in keys]
    session.add_all(things)
    session.flush()
    session.add_all(
        Replica(
            object_id=thing.id, site_id=site_id, storage_class="STANDARD", size=1000, state=ReplicaState.SERVING,
            is_origin=True, object_version=1, class_since=NOW - timedelta(days=40),
        )
        for thing in things
    )  # fmt: skip


def tell(session: Session, lines: list[Line], site: str = AWS) -> None:
    """Ingested as the API does: accesses, and what the writes among them say of the catalogue."""
    site_id = sites.get(session, site).id
    lines = sorted(lines)
    n = len(lines)
    block = Block(
        ts=[accesses.microseconds(ts) for ts, _, _ in lines], key=[key for _, key, _ in lines],
        op=[op for _, _, op in lines], site_id=[site_id] * n, bytes_read=[10] * n, status=[None] * n,
        event_id=[None] * n, region=[None] * n, client=[None] * n, partial_upload=[False] * n,
    )  # fmt: skip
    reports.follow(session, ingest.copy_block(session, block).writes)
    while accesses.roll_up(session).batches:
        pass


def micro(days: float) -> int:
    """So many days before now."""
    return accesses.microseconds(NOW - timedelta(days=days))


def fleet(seed: int = 1) -> list[Line]:
    """Twenty days of 40 objects that are hardly read and stay, and of 80 that are read each hour and soon deleted."""
    rng, lines = np.random.default_rng(seed), []
    begin = NOW - timedelta(days=20)
    for number in range(40):
        hours = [0, *np.flatnonzero(rng.random(480) < 1 / 200).tolist()]
        lines += [(begin + timedelta(hours=hour), f"stays-{number}", "GET") for hour in hours]
    for number in range(80):
        born, lasts = begin + timedelta(hours=int(rng.integers(0, 400))), int(rng.integers(50, 90))
        lines += [(born + timedelta(hours=hour), f"passes-{number}", "GET") for hour in range(lasts)]
        lines.append((born + timedelta(hours=lasts), f"passes-{number}", "DELETE"))
    return [line for line in lines if line[0] < NOW]


def test_what_is_deleted_young_and_much_read_is_learned_from(clean_database: str):
    lines = fleet()
    with session_scope() as session:
        furnish(session, sorted({key for _, key, _ in lines}))
        tell(session, lines)
        gone = session.scalars(select(Object.key).where(Object.gone_at.is_not(None))).all()
        keys = {thing.id: thing.key for thing in session.scalars(select(Object))}
        seen = observations.observe_hours(session, NOW)
        assert len(seen.ids) == observations.count_objects(session) == 120
    assert len(gone) == len([1 for _, _, op in lines if op == "DELETE"]) > 60
    rows = dataset.build(seen.history, seen.catalogue, accesses.microseconds(NOW), 1, horizon=DAY)
    ended = seen.catalogue.gone < STAYS
    assert ended.sum() == len(gone)
    for part in rows.parts.values():
        assert (part.cut <= seen.catalogue.gone[part.object]).all(), "after its end it is no row"
        assert ended[part.object].any()

    read = {(key, accesses.microseconds(ts)) for ts, key, op in lines if op == "GET"}
    test = rows.parts[Part.TEST]
    for place in range(0, len(test.y), 7):
        key, cut = keys[seen.ids[test.object[place]]], int(test.cut[place])
        assert test.y[place] == any((key, cut + hour * HOUR) in read for hour in range(24))

    left = ~ended  # what is known of those alone that were not deleted
    owner = np.cumsum(left) - 1
    of_left = seen.history.where(left[seen.history.object])
    columns = (of_left.ts, of_left.reads, of_left.writes, of_left.bytes_read, of_left.partial_uploads)
    history = History.of(owner[of_left.object], *columns, objects=int(left.sum()), begin=seen.history.begin)
    survivors = dataset.build(
        history,
        Catalogue.of(["k"] * history.objects, [1] * history.objects),
        accesses.microseconds(NOW),
        1,
        horizon=DAY,
    )
    off = {}
    for name, some in (("all", rows), ("survivors", survivors)):
        model = tiers.BASELINES["logit_four"](some.parts[Part.TRAIN], 1).packed
        young = test.X[:, NAMES.index("access_24h")] > 12
        off[name] = abs(model.raw(test.X[young]).mean() - test.y[young].mean())
    assert off["all"] < 0.05
    assert off["survivors"] > 2 * off["all"]


def test_an_object_that_is_written_anew_is_no_row_in_between_and_has_the_size_of_its_time(session: Session):
    furnish(session, ["a", "b", "still"])
    days = {
        "a": [(9, "GET"), (6, "DELETE"), (3, "PUT"), (1, "GET")],
        "b": [(9, "GET"), (5, "DELETE")],
        "still": [(9, "GET")],
    }
    for key, told in days.items():
        for ago, op in told:
            tell(session, [(NOW - timedelta(days=ago), key, op)])
    session.execute(text("update object set size = 70 where key = 'a'"))
    found = observations.observe_hours(session, NOW)
    assert found.catalogue.gone.tolist() == [STAYS, micro(5), STAYS]
    owner = np.zeros(3, int)
    assert found.catalogue.size_at(owner, np.array([micro(8), micro(4), micro(2)])).tolist() == [1000, 1000, 70]
    there = {ago: found.catalogue.there(micro(ago)).tolist() for ago in (8, 5.5, 4, 2)}
    assert there == {8: [True] * 3, 5.5: [False, True, True], 4: [False, False, True], 2: [True, False, True]}

    present = observations.observe(session, NOW)
    assert present.ids.tolist() == [found.ids[0], found.ids[2]], "what is gone is not served"
    assert present.catalogue.there(micro(4)).all()
    parts = [observations.observe_hours(session, NOW, (part, 2)) for part in (0, 1)]
    assert sorted(np.concatenate([part.ids for part in parts])) == found.ids.tolist()
    assert sum(len(part.catalogue.former.object) for part in parts) == len(found.catalogue.former.object) == 1

    partitions.prune(session, NOW, NOW - timedelta(days=2))
    assert session.scalars(select(ObjectFormer)).all() == []
    assert observations.count_objects(session) == 2, "what ended before anything is known cannot be learned from"


def test_scans_keep_sizes_and_ends(world):
    def lives() -> list[tuple[int | None, bool]]:
        with session_scope() as session:
            rows = session.scalars(select(ObjectFormer).order_by(ObjectFormer.until)).all()
            return [(row.size, row.gone_at is not None) for row in rows]

    world.put(AWS, "a", b"12345")
    world.scan(AWS)
    assert (world.object("a").size, world.object("a").gone_at, lives()) == (5, None, [])
    world.put(AWS, "a", b"123")
    world.scan(AWS)
    assert (world.object("a").size, lives()) == (3, [(5, False)])
    world.delete(AWS, "a")
    for _ in range(2):
        world.scan(AWS)
    assert (world.object("a").state, world.object("a").gone_at is None) == ("gone", False)
    world.put(AWS, "a", b"1")
    world.scan(AWS)
    assert (world.object("a").size, world.object("a").gone_at, lives()) == (1, None, [(5, False), (3, True)])


def test_the_size_of_a_write_that_was_only_reported_comes_with_the_next_scan(world):
    world.put(AWS, "a", b"12345")
    world.scan(AWS)
    world.put(AWS, "a", b"12")
    with session_scope() as session:
        tell(session, [(datetime.now(UTC) + timedelta(seconds=9), world.key("a"), "PUT")])
    assert world.object("a").size == 5
    world.scan(AWS)
    assert world.object("a").size == 2
    with session_scope() as session:
        assert session.scalars(select(ObjectFormer.size)).all() == [5]
