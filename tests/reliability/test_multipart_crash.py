"""I11: a worker is killed in a copy in parts: its successor sends one part again at most, and no upload is left."""

import hashlib
import random
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace

import pytest

from app.domain.tasks import TaskName
from tests import jobs, s3servers
from tests.faults.proxy import Proxy
from tests.faults.rules import Fault, on
from tests.plain import Plain
from tests.reliability.forked import Forked
from tests.world import World
from workers.tidying import tidy

MIB = 2**20
PART, PARTS = 5 * MIB, 5
SOURCE = "aws-eu"
DESTINATIONS = ("azure-we", s3servers.RCLONE)
KILLS = 20
POINTS = ("upload_begun", "part_sent", "copied", "proven", "verified")
"""Moments between an answer and what is saved of it."""
REQUESTS = ("CreateMultipartUpload", "UploadPart", "UploadPart", "CompleteMultipartUpload")
"""Whose request, or whose answer, the worker does not outlive; parts more often, since there are more."""


class Path(World):
    """A world in which every request to a destination passes a proxy that counts it."""

    def __init__(self, source, proxies: dict[str, Proxy]) -> None:
        self.proxies = proxies
        super().__init__({SOURCE: source} | {name: proxy.site for name, proxy in proxies.items()})
        self.plain = {SOURCE: Plain(source)} | {name: Plain(proxy.behind) for name, proxy in proxies.items()}
        self.worker = Forked(self)

    def killed(self, job_id: int, proxy: Proxy, chance: random.Random) -> bool:
        """Works until a moment of chance, at which the worker is killed; returns whether it came there."""
        if chance.random() < 0.4:
            point, left = chance.choice(POINTS), [chance.randrange(1, PARTS)]

            def at(reached: str) -> None:
                left[0] -= reached == point
                if reached == point and (left[0] == 0 or point != "part_sent"):
                    self.worker.kill()

            return self.worker.work(job_id, at)
        request, moment = chance.choice(REQUESTS), chance.choice((Fault.BEFORE, Fault.AFTER))
        skip = chance.randrange(PARTS - 1) if request == "UploadPart" else 0
        proxy.harm(on(request, moment, skip=skip, times=1, act=self.worker.kill))
        killed = self.worker.work(job_id)
        proxy.harm()
        return killed


@pytest.fixture
def path(sites, site_of, clean_database, configure) -> Iterator[Path]:
    configure(growing_age_s=0, retry_base_s=60, multipart_threshold=PART, part_size=PART)
    behind = {name: sites.get(name) or site_of(name) for name in DESTINATIONS}
    with ExitStack() as stack:
        proxies = {name: stack.enter_context(Proxy(replace(site, name=name))) for name, site in behind.items()}
        yield Path(sites[SOURCE], proxies)


def test_one_part_is_sent_again_at_most_and_no_upload_is_left(path, rounds, figure, seed):
    chosen = random.randrange(2**32) if seed is None else seed
    print(f"seed {chosen}")
    chance, kills, again, orphans = random.Random(chosen), 0, 0, 0
    for number in rounds(KILLS, share=2.0, least=len(DESTINATIONS)):
        destination = DESTINATIONS[number % len(DESTINATIONS)]
        name, body = f"{number}", chance.randbytes(PARTS * PART - chance.choice([0, 1, PART - 1]))
        path.plain[SOURCE].put(path.key(name), body)
        path.scan(SOURCE, name)
        job_id, proxy, mine = path.move(name, SOURCE, destination), path.proxies[destination], 0
        for _ in range(chance.randrange(1, 4)):
            mine += path.killed(job_id, proxy, chance)
            path.due(job_id)  # the lease has lapsed
        path.finish(job_id)
        assert path.row(job_id).state == "done", path.row(job_id).error
        assert path.plain[destination].sha256(path.key(name)) == hashlib.sha256(body).hexdigest()
        sent = Counter(one.part for one in proxy.asked("UploadPart", path.key(name)))
        assert sorted(sent) == list(range(1, PARTS + 1))
        assert sum(sent.values()) - PARTS <= mine, (sent, mine)
        kills, again = kills + mine, again + sum(sent.values()) - PARTS
    for destination in DESTINATIONS:
        orphans += len(path.plain[destination].uploads(path.folder))
        jobs.run(tidy, TaskName.TIDY, {"site": destination, "prefix": path.folder})
        assert path.plain[destination].uploads(path.folder) == {}, destination
    figure("I11", f"{again} parts sent again; {orphans} uploads orphaned, 0 after the sweep; seed {chosen}", kills)
