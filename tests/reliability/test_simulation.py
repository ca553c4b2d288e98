"""I18: simulated hours, each from one seed, with the real engine on the real database and everything else made up."""

from __future__ import annotations

import random

import pytest
from sqlalchemy import text

from app.db.session import session_scope
from app.db.tables import Base
from app.devstack.seaweed import RunningSite
from tests.simulation.clock import Clock
from tests.simulation.hour import Hour, Tale
from tests.simulation.site import Site
from tests.world import World

SEEDS = 500
NAMES = ("aws-eu", "azure-we", "gcp-eu")


@pytest.fixture
def simulate(clean_database, configure):
    """Runs a seed's hour."""
    configure(
        growing_age_s=5, lease_s=30, lease_renew_s=10, retry_base_s=1, retry_cap_s=60, ring_again_s=15,
        multipart_threshold=5 * 2**20, part_size=5 * 2**20, migrate_concurrency=1, claim_batch=8, log_level="ERROR",
    )  # fmt: skip
    clock = Clock()
    sites = {name: Site(name, clock) for name in NAMES}

    running = {
        name: RunningSite(
            name=name, provider="aws", region="eu-west-1", endpoint_url=site.endpoint_url,
            bucket=f"bucket-{name}", access_key=name, secret_key="secret",
        )
        for name, site in sites.items()
    }  # fmt: skip

    def begin() -> World:
        with session_scope() as session:
            session.execute(text(f"truncate {', '.join(Base.metadata.tables)} restart identity cascade"))
        world = World(running)
        world.folder = "w/"
        return world

    def run(seed: int) -> Tale:
        clock.reset()
        for site in sites.values():
            site.reset()
        return Hour(seed, begin(), sites, clock).run()

    with clock.ruling():
        begin()  # probes the sites, which takes time that no hour must begin with
        yield run
    for site in sites.values():
        site.close()


def test_every_simulated_hour_ends_well(simulate, rounds, seed, figure):
    first = random.randrange(10**9) if seed is None else seed
    tales = []
    for number in rounds(1 if seed is not None else SEEDS, share=3):
        try:
            tales.append(simulate(first + number))
        except BaseException:
            print(f"pytest tests/reliability/test_simulation.py --seed {first + number}")
            raise
    requests, deaths = sum(tale.requests for tale in tales), sum(tale.deaths for tale in tales)
    moves = sum(tale.moves for tale in tales)
    shown = f"hours ended well: {moves:,} moves, {requests:,} requests, {deaths:,} deaths of workers, from seed {first}"
    figure("I18", shown, len(tales))


def test_a_seed_tells_the_same_tale_twice(simulate, seed):
    chosen = random.randrange(10**9) if seed is None else seed
    assert simulate(chosen).lines == simulate(chosen).lines, f"--seed {chosen}"
