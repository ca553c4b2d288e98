"""Made-up worlds to route in: queues that behave as theory says, scenarios that repeat, policies that are paired."""

from __future__ import annotations

import json
from math import factorial

import numpy as np
import pytest

from app.domain.balancing import POLICIES, Fresh, RoundRobin
from app.lab import route_simulation, route_truth
from app.lab.route_queue import Queue
from app.lab.route_run import play
from app.lab.route_world import CELLS, LENGTH_S, SLA_MS, Scenario, Site, scenario


def cell(regime: str, traffic: str, seed: int = 5) -> Scenario:
    return scenario(CELLS.index((regime, traffic)), seed)


@pytest.mark.parametrize(("servers", "load"), [(1, 0.7), (4, 0.8), (8, 0.9)])
def test_waits_are_those_of_erlang(servers: int, load: float):
    rng = np.random.default_rng(3)
    count, mean = 400_000, 0.05
    times = np.cumsum(rng.exponential(mean / (load * servers), count))
    service = rng.exponential(mean, count)
    site = Site(servers, mean, 0.0, np.zeros(LENGTH_S), np.zeros(LENGTH_S, bool), 0.0)
    queue = Queue(site, (np.zeros(0), np.zeros(0)))
    waited = [queue.take(float(at), float(took)) - took for at, took in zip(times, service, strict=True)]
    offered = load * servers
    last = offered**servers / factorial(servers) / (1 - load)
    busy = last / (sum(offered**n / factorial(n) for n in range(servers)) + last)
    assert np.mean(waited) == pytest.approx(busy * mean / (servers * (1 - load)), rel=0.1)


def test_hidden_requests_take_their_turn():
    site = Site(1, 1.0, 0.0, np.zeros(LENGTH_S), np.zeros(LENGTH_S, bool), 0.0)
    queue = Queue(site, (np.array([0.0, 5.0]), np.array([2.0, 1.0])))
    assert queue.take(1.0, 1.0) == pytest.approx(2.0)  # waits for the one that came at 0
    assert queue.wait(5.5) == pytest.approx(0.5)
    assert queue.take(10.0, 1.0) == pytest.approx(1.0)


def test_a_scenario_is_fixed_by_its_seed_and_every_request_is_answered():
    world, again = cell("spike", "sparse"), cell("spike", "sparse")
    assert np.array_equal(world.arrival, again.arrival)
    assert np.array_equal(world.service, again.service)
    one, two = (play(each, POLICIES["foretide_no_model"]) for each in (world, again))
    assert np.array_equal(one.latency_ms, two.latency_ms)
    assert len(one.latency_ms) == (world.arrival >= 90).sum()
    assert one.latency_ms.min() > 0
    assert not np.array_equal(cell("spike", "sparse", seed=6).arrival, world.arrival)


def test_policies_see_the_same_draws():
    """Where there is but one good choice, two policies that make it take the same time for each request."""
    world = cell("calm", "sparse")
    one = Scenario(
        world.regime, world.traffic, 1, world.sites[:1], world.arrival, world.reader, 1, world.service[:, :1],
        world.hidden[:1], world.late,
    )  # fmt: skip
    assert np.array_equal(play(one, RoundRobin).latency_ms, play(one, POLICIES["peak_ewma"]).latency_ms)


def test_a_dead_site_is_left_and_reads_go_on():
    world = cell("death", "busy")
    naive, ours = play(world, RoundRobin), play(world, Fresh)
    assert naive.missed.mean() > 10 * ours.missed.mean()
    assert ours.hedges <= 0.05 * len(ours.missed) + 20


def test_what_is_slow_is_told_beside_every_policy_alike():
    state = route_truth.slow(cell("drain", "busy"))
    assert state.any()
    assert not route_truth.slow(cell("calm", "busy")).any()
    assert route_truth.onsets(np.array([False] * 50 + [True] * 20 + [False] * 10 + [True] * 9 + [False])) == [(50, 89)]
    left = np.zeros((LENGTH_S, 1))
    left[500:590] = 1.0
    quiet = np.zeros((LENGTH_S, 1), bool)
    assert route_truth.false_share(left, quiet, 90) == pytest.approx(90 / (LENGTH_S - 90))
    slow = quiet.copy()
    slow[500:560] = True
    assert route_truth.false_share(left, slow, 90) == pytest.approx(0.0, abs=1e-9)


def test_the_document_has_every_policy_beside_the_floor():
    names = ["peak_ewma_reactive", "foretide_no_model"]
    document = route_simulation.simulate(2, 4, names, lambda done, total, what: None)
    json.dumps(document)
    floor, ours = document["policies"]
    assert (floor["name"], floor["ratio_to_floor"]) == ("peak_ewma_reactive", 1.0)
    assert set(ours) >= {
        "misses", "ratio_to_floor", "p50_ms", "p95_ms", "p99_ms", "false_reroute_time", "hedges", "probes", "interval",
        "per_cell",
    }  # fmt: skip
    assert [(each["regime"], each["traffic"]) for each in ours["per_cell"]] == [("calm", "busy"), ("calm", "sparse")]
    assert 0 < ours["p50_ms"] < SLA_MS
