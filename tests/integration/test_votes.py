"""The vote in production: it decides as the replay does, learns when it is time, and says who voted what."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from sqlalchemy import insert, text, update

from app.db import jobs, models, placement, plans, policies, prices
from app.db.placement import Selection
from app.db.session import session_scope
from app.db.tables import AccessBatch, AccessHour, Job, Object, Replica, Site
from app.domain import price_documents
from app.domain.explanation import explain
from app.domain.placement_costs import price
from app.domain.placement_decisions import Verdict, decide
from app.domain.placement_problem import Problem
from app.domain.price_books import AWS, shipped
from app.domain.states import JobState, ObjectState, ReplicaState, SiteState
from app.lab.days import Days
from app.lab.fleets import fleet
from app.lab.ladders import ladder
from app.queue import TaskName
from ml.tiering import learn, rules, together
from ml.tiering_alarm import HASTY, rings_on
from ml.tiering_loops import play
from ml.tiering_types import COMPONENTS, FOLLOW, NEVER
from workers import voters
from workers.models import train
from workers.placement import plan as plan_task

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
TODAY = datetime(2026, 5, 1, tzinfo=UTC)
CLASSES = ["STANDARD", "STANDARD_IA", "GLACIER_IR"]
NO_GATE = {"default": {"payback": 0, "confidence": 0, "min_residency_days": 0}}


def add_site(session, name="aws-eu", provider="aws", classes=CLASSES) -> int:
    row = Site(
        name=name, provider=provider, region="eu-west-1", endpoint_url="http://127.0.0.1:1", bucket="b",
        access_key="k", secret_key_encrypted=b"s", classes=list(classes), latency_ms=30.0, state=SiteState.READY,
        capabilities={"classes": list(classes)},
    )  # fmt: skip
    session.add(row)
    session.flush()
    return row.id


def store(session, days: Days, site_id: int, until: int) -> list[int]:
    """The days before `until` as accesses, that day being today; the objects' ids."""
    begin = TODAY - timedelta(days=until)
    session.add(AccessBatch(accepted=1, ts_min=begin, ts_max=TODAY, rolled_up_at=TODAY))
    ids = []
    for number, size in enumerate(days.size.tolist()):
        birth = begin + timedelta(days=int(days.grid.birth[number]))
        row = Object(key=f"set/{number:04}", state=ObjectState.PRESENT, size=size, first_seen_at=min(birth, NOW))
        session.add(row)
        session.flush()
        session.add(
            Replica(
                object_id=row.id, site_id=site_id, storage_class="STANDARD", state=ReplicaState.SERVING,
                is_origin=True, object_version=1, size=size, class_since=min(birth, NOW),
            )
        )  # fmt: skip
        ids.append(row.id)
    session.flush()
    reads, share, event = days.grid.reads[:, :until], days.grid.share[:, :until], days.grid.event[:, :until]
    rows = [
        {
            "object_id": ids[i], "region": "eu-west-1", "reads": int(reads[i, t]),
            **dict.fromkeys(("hour", "last_ts"), begin + timedelta(days=int(t), hours=int(t) % 24)),
            "writes": int(event[i, t] == 1), "bytes_read": round(share[i, t] * days.size[i]), "partial_uploads": 0,
        }
        for i, t in zip(*np.nonzero((reads > 0) | (event == 1)), strict=True)
    ]  # fmt: skip
    session.execute(insert(AccessHour), rows)
    return ids


def run_plan(**args) -> Job:
    """Submits a plan and does what workers do: it waits for what it lets learn first."""
    with session_scope() as session:
        number = jobs.submit(session, TaskName.PLAN, {"as_of": NOW.isoformat(), **args}).id
    plan_task(number)
    with session_scope() as session:
        children = [child.id for child in jobs.children(session, number)]
    for child in children:
        train(child)
    if children:
        plan_task(number)
    with session_scope() as session:
        return session.get_one(Job, number)


def decisions(selection=None):
    with session_scope() as session:
        world = placement.world(session, NOW)
        block = placement.block(session, world, selection or Selection(), 0, 10_000)
    return decide(price(Problem(world.options, block.items, 90.0)))


def at_random(days: Days, seed: int, until: int) -> tuple[np.ndarray, np.ndarray]:
    """A class for each object and since when it lies there: states that no rule needs to have led to."""
    chance = np.random.default_rng(seed)
    n = len(days.size)
    since = np.maximum(days.grid.birth, until - chance.integers(1, 120, n))
    return np.where(since > days.grid.birth, chance.integers(0, 3, n), 0), since


@pytest.mark.parametrize("habit", ["archive", "mixed", "ratings", "seasonal"])
def test_production_decides_as_the_replay_does(clean_database, habit):
    """One site, one copy, the gate open: from any class and age, the plan does what the replay does on that day."""
    days, until = fleet(habit, 11, objects=60, days=280), 252
    c, since = at_random(days, 5, until)
    with session_scope() as session:
        policies.put(session, "sla", NO_GATE, actor="t")
        ids = store(session, days, add_site(session), until)
        for number, at, day in zip(ids, c.tolist(), since.tolist(), strict=True):
            moved = {"storage_class": CLASSES[at], "class_since": TODAY + timedelta(days=day - until, hours=3)}
            session.execute(update(Replica).where(Replica.object_id == number).values(**moved))
    assert run_plan().state == JobState.SUCCEEDED
    found = decisions()
    held = [entry.item.held[0].storage_class for entry in found]
    wanted = [entry.moves[0].to_class if entry.moves else at for entry, at in zip(found, held, strict=True)]
    assert held == [CLASSES[at] for at in c]
    assert wanted == [CLASSES[at] for at in replayed(days, until, c, since)]
    assert wanted != held, "something moves"


def replayed(days: Days, until: int, c: np.ndarray, since: np.ndarray) -> list[int]:
    """The classes after the replay's decision of one day, of objects that lie where they lie since then."""
    size, steps = days.size / 2**30, ladder(AWS, days.size)
    known = learn(days.grid, steps, size, until, seed=voters.SEED).guarded(days.grid, steps, size, until)
    day = np.arange(days.days)
    lay = np.where(day < since[:, None], 0, c[:, None]).astype(np.int8)
    cell = np.where(day < until, lay, known.signals.cell)
    rule = together(together(known.rule, rules((FOLLOW, NEVER, NEVER, 0, 0))), HASTY)
    follow = len(known.rule.kind)
    alarm = rings_on(known, days.grid, steps, lay, 0, until)
    rule_at = np.where(day < until, follow, follow + 1 if alarm else known.rule_at)
    where = np.zeros(days.grid.reads.shape, np.int8)
    spent = (np.zeros((len(size), COMPONENTS)), np.zeros(days.days), np.zeros(len(size), np.int64))
    signals = known.signals._replace(cell=cell)
    play(days.grid, steps, signals, size, rule, rule_at, known.by, 0, until + 1, *spent, where)
    return where[:, until].tolist()


def test_on_a_day_with_an_alarm_reads_bring_back_and_nothing_is_demoted(clean_database):
    """Forty in a hundred turned busy five days ago, all of them in a colder class."""
    days, until = fleet("shift", 11, objects=60, days=400), 205
    since = np.maximum(days.grid.birth, 150)
    c = np.where(since < until - 5, 1, 0)
    with session_scope() as session:
        policies.put(session, "sla", NO_GATE, actor="t")
        for number, at, day in zip(store(session, days, add_site(session), until), c, since, strict=True):
            moved = {"storage_class": CLASSES[at], "class_since": TODAY + timedelta(days=int(day) - until, hours=3)}
            session.execute(update(Replica).where(Replica.object_id == number).values(**moved))
    job = run_plan()
    with session_scope() as session:
        assert plans.get(session, job.result["plan_id"]).solver["alarms"] == ["aws-eu"]
    moves = dict(moves_of(job))
    wanted = replayed(days, until, c, since)
    back = {f"set/{number:04}" for number in range(60) if c[number] == 1 and wanted[number] == 0}
    assert moves == dict.fromkeys(back, "STANDARD")
    assert len(back) >= 5
    read = days.grid.reads[:, 150:until].sum(axis=1) > 0
    assert all(read[int(key[-4:])] for key in back), "what nobody read stays"
    assert len(back) < (c == 1).sum()


def test_rules_that_cost_more_than_staying_on_days_they_had_not_seen_do_not_speak(clean_database):
    with session_scope() as session:
        store(session, fleet("shift", 11, objects=60, days=360), add_site(session), 252)
    job = run_plan()
    with session_scope() as session:
        learned = models.champion(session, "placement")
        cost = learned.metrics["aws-eu"]
        assert cost["learned"] > 1.01 * cost["stay"]
        assert cost["speaks"] == "stay"
        assert plans.get(session, job.result["plan_id"]).solver["vote"]["decided_by"] == {"stay": 60}
    assert job.result["moves"] == 0


@pytest.fixture
def archive(clean_database) -> list[int]:
    with session_scope() as session:
        return store(session, fleet("archive", 11, objects=40, days=280), add_site(session), 252)


def moves_of(job: Job) -> list[tuple[str, str | None]]:
    with session_scope() as session:
        return [(change.key, change.move.to_class) for change in plans.changes(session, job.result["plan_id"])]


def test_no_decision_depends_on_the_future(archive):
    """Reads after now, in whatever order, change neither what is learned nor what is planned."""
    seen = []
    for seed in (1, 2):
        chance = np.random.default_rng(seed)
        with session_scope() as session:
            session.execute(text("truncate model_version, object_opinion cascade"))
            session.execute(text("delete from access_hour where hour > :now"), {"now": NOW})
            rows = [
                {"object_id": number, "hour": NOW + timedelta(days=int(day)), "last_ts": NOW + timedelta(days=int(day)),
                 "region": "eu-west-1", "reads": 50, "writes": 0, "bytes_read": 10**9, "partial_uploads": 0}
                for number in archive for day in chance.choice(np.arange(1, 60), 20, replace=False)
            ]  # fmt: skip
            session.execute(insert(AccessHour), rows)
        seen.append(moves_of(run_plan()))
    assert seen[0]
    assert seen[0] == seen[1]


def test_the_plan_its_moves_and_the_explanations_name_the_votes(archive):
    job = run_plan()
    with session_scope() as session:
        plan = plans.get(session, job.result["plan_id"])
        vote = plan.solver["vote"]
        assert vote["model"] == "placement 1"
        assert sum(vote["decided_by"].values()) + sum(vote["no_vote"].values()) == plan.objects == 40
        changes = plans.changes(session, plan.id)
        assert changes
        assert all(f"; {vote['sites']['aws-eu']}: rate " in change.move.reason for change in changes)
        key = changes[0].key
        world = placement.world(session, NOW)
        block = placement.block(session, world, Selection(keys=(key,)), 0, 1)
    shown = explain(Problem(world.options, block.items, 30.0))
    assert shown["vote"]["sites"]["aws-eu"]["target"] == changes[0].move.to_class
    assert shown["verdict"] == Verdict.MOVE
    assert {one["voter"] for one in shown["vote"]["sites"]["aws-eu"]["votes"]} == {"rate", "timeouts", "values"}


def test_voters_learn_again_when_prices_change_or_a_month_has_passed(archive):
    versions = [learned_for(run_plan())]
    versions.append(learned_for(run_plan()))
    with session_scope() as session:
        prices.put(session, "aws-eu", {**price_documents.to_json(shipped("aws")), "name": "ours"}, actor="t")
    versions.append(learned_for(run_plan()))
    versions.append(learned_for(run_plan(as_of=(NOW + timedelta(days=29)).isoformat())))
    versions.append(learned_for(run_plan(as_of=(NOW + timedelta(days=31)).isoformat())))
    assert versions == ["placement 1", "placement 1", "placement 2", "placement 2", "placement 3"]


def learned_for(job: Job) -> str:
    with session_scope() as session:
        return plans.get(session, job.result["plan_id"]).solver["vote"]["model"]


def test_too_short_a_history_is_said_and_the_expected_cost_decides(archive):
    with session_scope() as session:
        session.execute(update(AccessBatch).values(ts_min=NOW - timedelta(days=30)))
        policies.put(session, "sla", NO_GATE, actor="t")
    job = run_plan()
    with session_scope() as session:
        assert jobs.children(session, job.id) == []
        plan = plans.get(session, job.result["plan_id"])
        assert plan.solver["vote"] == {
            "model": None,
            "unlearned": None,
            "sites": {},
            "decided_by": {},
            "no_vote": {
                "no vote, since 30 days of accesses are known, it needs 90: what is expected of its own rate and its "
                "cohort's decides": 40
            },
        }
        assert plan.moves > 0
        assert "30 days of accesses" in plans.changes(session, plan.id)[0].move.reason


def test_a_plan_goes_on_when_the_voters_cannot_learn(archive):
    with session_scope() as session:
        number = jobs.submit(session, TaskName.PLAN, {"as_of": NOW.isoformat()}).id
    plan_task(number)
    with session_scope() as session:
        (child,) = jobs.children(session, number)
        assert (child.kind, child.args["model"]) == (TaskName.TRAIN, "placement")
        jobs.cancel(session, child.id)
        session.execute(update(Job).where(Job.id == number).values(next_attempt_at=NOW))
    plan_task(number)
    with session_scope() as session:
        assert session.get_one(Job, number).state == JobState.SUCCEEDED
        assert models.champion(session, "placement") is None


def test_lessons_that_fail_are_given_time_and_the_plan_says_so(archive):
    """It fails since the owner has deleted whatever there was to learn from."""
    with session_scope() as session:
        session.execute(update(Object).values(state=ObjectState.GONE))
    first, second = run_plan(), run_plan()
    assert [len(lessons(job)) for job in (first, second)] == [1, 0], "not with every plan"
    (failed,) = lessons(first)
    assert failed.state == JobState.FAILED
    for job in (first, second):
        told = unlearned(job)
        assert told.startswith(f"they have not learned yet, but job {failed.id} failed: "), told
        assert failed.error["detail"] in told
        assert f"from {failed.finished_at + timedelta(hours=1):%Y-%m-%d %H:%M} UTC" in told
    with session_scope() as session:
        session.execute(update(Job).where(Job.id == failed.id).values(finished_at=Job.finished_at - timedelta(hours=1)))
    third = run_plan()
    (again,) = lessons(third)
    assert f"job {again.id} failed, and 1 before it" in unlearned(third)
    assert f"from {again.finished_at + timedelta(hours=2):%Y-%m-%d %H:%M} UTC" in unlearned(run_plan())


def lessons(job: Job) -> list[Job]:
    with session_scope() as session:
        return jobs.children(session, job.id)


def unlearned(job: Job) -> str:
    with session_scope() as session:
        return plans.get(session, job.result["plan_id"]).solver["vote"]["unlearned"] or ""


def test_a_file_that_was_tampered_with_is_refused(archive):
    run_plan()
    with session_scope() as session:
        session.execute(text("update model_artifact set body = body || '\\x00' where format = 'voters'"))
    assert run_plan().reason == "artifact_refused"


def test_voters_learn_anew_when_what_they_learned_is_gone(archive):
    run_plan()
    with session_scope() as session:
        session.execute(text("delete from model_artifact where format = 'voters'"))
    assert learned_for(run_plan()) == "placement 2"
