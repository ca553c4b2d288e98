from app.domain.routing import Candidate, Sample, choose, health


def site(name: str, latencies: list[float | None], *, reachable: bool = True) -> Candidate:
    samples = [Sample(latency is not None, latency) for latency in latencies]
    return Candidate(name, "STANDARD", reachable, health(samples))


def test_takes_turns_until_every_candidate_has_five_samples() -> None:
    candidates = [site("b", [10.0] * 4), site("a", [500.0] * 9)]
    routes = [choose(candidates, turn=turn) for turn in range(4)]
    assert [route.site for route in routes] == ["a", "b", "a", "b"]
    assert all(route.reason.startswith("round_robin") for route in routes)


def test_takes_the_fastest_once_latencies_are_known() -> None:
    route = choose([site("slow", [80.0] * 6), site("fast", [20.0] * 6)], turn=0, sla_ms=80)
    assert (route.site, route.predicted_ms) == ("fast", 20.0)
    assert route.alternatives == ({"site": "slow", "predicted_ms": 80.0, "why_not": "slower or not its turn"},)


def test_says_when_even_the_fastest_is_over_the_sla() -> None:
    assert "over the SLA of 80 ms" in choose([site("a", [120.0] * 6)], turn=0, sla_ms=80).reason


def test_leaves_out_failing_and_unreachable_sites_while_another_remains() -> None:
    candidates = [
        site("failing", [1.0] * 6 + [None] * 2),
        site("away", [1.0] * 6, reachable=False),
        site("ok", [90.0] * 6),
    ]
    route = choose(candidates, turn=0)
    assert route.site == "ok"
    assert {a["site"]: a["why_not"] for a in route.alternatives} == {
        "away": "unreachable",
        "failing": "2 errors in a row",
    }


def test_a_read_that_may_fail_beats_no_read() -> None:
    assert choose([site("failing", [None] * 6)], turn=0).site == "failing"
    assert choose([], turn=0) is None


def test_health_follows_a_change_of_latency() -> None:
    assert health([Sample(True, 10.0)] * 5 + [Sample(True, 100.0)] * 10).predicted_ms > 90
