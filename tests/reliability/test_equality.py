"""I3: what arrives equals what was sent, at every size; a bit that turns on the way is found, and nothing else is."""

import random
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from urllib.parse import urlencode

import pytest

from app.domain.states import MoveKind
from tests import s3servers
from tests.faults.proxy import Proxy
from tests.faults.rules import Fault, on
from tests.plain import Plain
from tests.world import World

MIB = 2**20
PART = 5 * MIB
WEED, OTHER, RCLONE = "aws-eu", "azure-we", s3servers.RCLONE
PAIRS = ((WEED, OTHER), (WEED, RCLONE), (RCLONE, WEED))
BATCH = 20
OBJECTS = 1000
HARMED = 0.4
"""Share of the objects that meet a corruption."""
READS = (Fault.FLIPPED, "GetObject")
WRITES = (Fault.SPOILT, "PutObject UploadPart")


@dataclass(frozen=True)
class Sent:
    """An object as its owner wrote it, and what is done to it on its way: at the site `where`."""

    body: bytes
    headers: dict[str, str]
    metadata: dict[str, str]
    tags: dict[str, str]
    to_class: str
    harm: tuple[Fault, str] | None
    where: str


def size(chance: random.Random) -> int:
    """From nothing to 64 MiB; most are small, many stand at a boundary of parts."""
    kind = chance.random()
    if kind < 0.65:
        return chance.choice([0, 1, 2, 1023, 1024, 65_535, 65_536, chance.randrange(1, 200_000)])
    least, most = (1, 3) if kind < 0.98 else (8, 12)
    return min(64 * MIB, chance.randrange(least, most + 1) * PART + chance.choice([-1, 0, 1]))


def make(chance: random.Random, pair: tuple[str, str], classes: list[str]) -> Sent:
    headers = {
        "ContentType": chance.choice(["text/plain; charset=utf-8", "application/x-demo", "image/png"]),
        "ContentEncoding": chance.choice(["gzip", "identity", "br"]),
        "CacheControl": f"max-age={chance.randrange(1000)}",
        "ContentDisposition": f'attachment; filename="{chance.randrange(10**6)}.bin"',
        "ContentLanguage": chance.choice(["de", "en-GB, fr"]),
    }
    kept = chance.sample(sorted(headers), chance.randrange(1, len(headers) + 1))
    tagged = RCLONE not in pair
    corruptible = [(READS, pair[0]), (WRITES, pair[1]), *([(READS, pair[1])] if pair[1] == RCLONE else [])]
    harm, where = chance.choice(corruptible) if chance.random() < HARMED else (None, "")
    body = chance.randbytes(size(chance))
    return Sent(
        body=body,
        headers={name: headers[name] for name in kept},
        metadata={f"key-{n}": chance.randbytes(8).hex() for n in range(chance.randrange(6))},
        tags={f"tag {n}": f"a+b={chance.randrange(100)}" for n in range(chance.randrange(4))} if tagged else {},
        to_class=chance.choice(classes),
        harm=harm if body else None,
        where=where,
    )


class Way(World):
    """A world whose sites stand behind proxies, one a site; it is looked at directly."""

    def __init__(self, proxies: dict[str, Proxy]) -> None:
        self.proxies = proxies
        super().__init__({name: replace(proxy.site, name=name) for name, proxy in proxies.items()})
        self.policy("limits", {"abort_error_rate": 1.0, "canary_moves": 0})
        self.plain = {name: Plain(proxy.behind) for name, proxy in proxies.items()}

    def send(self, pair: tuple[str, str], batch: dict[str, Sent]) -> int:
        """Puts the objects, lets their harm wait on the way and moves them; returns how many were harmed."""
        for name, sent in batch.items():
            tagging = {"Tagging": urlencode(sent.tags)} if sent.tags else {}
            self.plain[pair[0]].put(self.key(name), sent.body, Metadata=sent.metadata, **sent.headers, **tagging)
        self.scan(pair[0], next(iter(batch)).partition("/")[0])
        before = self.harmed()
        for site, proxy in self.proxies.items():
            mine = [(name, sent.harm) for name, sent in batch.items() if sent.harm and sent.where == site]
            proxy.harm(*(on(operations, fault, name=name, times=1) for name, (fault, operations) in mine))
        job_id = self.plan(*((name, MoveKind.MOVE, *pair, sent.to_class) for name, sent in batch.items()))
        self.finish(job_id, turns=20)
        rows = {row.object_id: row for row in self.rows(job_id)}
        for name, sent in batch.items():
            row = rows[self.object(name).id]
            assert (name, row.state) == (name, "done"), (row.reason, row.error)
            assert (name, row.retries > 0) == (name, sent.harm is not None), (sent.harm, sent.where, len(sent.body))
            self.arrived(pair[1], name, sent)
        return self.harmed() - before

    def arrived(self, site: str, name: str, sent: Sent) -> None:
        """The destination holds exactly what was sent."""
        head = self.plain[site].head(self.key(name))
        assert head is not None
        assert self.plain[site].get(self.key(name)) == sent.body, (name, len(sent.body))
        assert head["ContentLength"] == len(sent.body)
        assert {header: head.get(header) for header in sent.headers} == sent.headers
        metadata = {key: value for key, value in head["Metadata"].items() if not key.startswith("foretide-")}
        assert metadata == sent.metadata
        assert head.get("StorageClass", "STANDARD") == sent.to_class
        if sent.tags:
            assert self.plain[site].tags(self.key(name)) == sent.tags

    def harmed(self) -> int:
        return sum(bool(one.injected) for proxy in self.proxies.values() for one in proxy.log)


@pytest.fixture
def way(sites, site_of, clean_database, configure, seed) -> Iterator[Way]:
    configure(growing_age_s=0, retry_base_s=60, multipart_threshold=PART, part_size=PART)
    behind = {WEED: sites[WEED], OTHER: sites[OTHER], RCLONE: site_of(RCLONE)}
    with ExitStack() as stack:
        yield Way({name: stack.enter_context(Proxy(site, seed or 0)) for name, site in behind.items()})


def test_what_arrives_is_what_was_sent_and_every_turned_bit_is_found(way, rounds, figure, seed):
    chosen = random.randrange(2**32) if seed is None else seed
    print(f"seed {chosen}")
    chance = random.Random(chosen)
    objects = harmed = size = 0
    for number in rounds(OBJECTS // BATCH, share=2.0, least=len(PAIRS)):
        pair = PAIRS[number % len(PAIRS)]
        classes = way.capabilities(pair[1])["classes"]
        batch = {f"{number}/{n:02}": make(chance, pair, classes) for n in range(BATCH)}
        expected = sum(sent.harm is not None for sent in batch.values())
        assert way.send(pair, batch) == expected
        objects, harmed = objects + len(batch), harmed + expected
        size += sum(len(sent.body) for sent in batch.values())
    found = f"{harmed} of {harmed} turned bits found, none falsely"
    figure("I3", f"{objects} objects of {size / MIB:,.0f} MiB equal end to end; {found}; seed {chosen}", objects)
