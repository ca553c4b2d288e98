"""The shipped books against the table that they were entered from, cell by cell, and a managed class's invoice."""

import click
import numpy as np
import pytest

from app.cli.prices import changed
from app.domain import price_documents
from app.domain.price_books import AWS, AZURE, GCP, R2
from app.domain.price_documents import from_json
from app.domain.prices import GB, KB, Place, egress_per_gb, storage_month
from app.domain.pricing import object_month, read_usd
from app.errors import Invalid

# class: storage, PUT, GET (None: a restore's request), retrieval, least days
AWS_TABLE = {
    "STANDARD": (0.023, 0.005, 0.0004, 0, 0),
    "INTELLIGENT_TIERING": (0.023, 0.005, 0.0004, 0, 0),
    "STANDARD_IA": (0.0125, 0.01, 0.001, 0.01, 30),
    "ONEZONE_IA": (0.01, 0.01, 0.001, 0.01, 30),
    "GLACIER_IR": (0.004, 0.02, 0.01, 0.03, 90),
    "GLACIER": (0.0036, 0.03, None, 0.01, 90),
    "DEEP_ARCHIVE": (0.00099, 0.05, None, 0.02, 180),
}
GCP_TABLE = {
    "STANDARD": (0.020, 0.005, 0.0004, 0, 0),
    "NEARLINE": (0.010, 0.01, 0.001, 0.01, 30),
    "COLDLINE": (0.004, 0.02, 0.01, 0.02, 90),
    "ARCHIVE": (0.0012, 0.05, 0.05, 0.05, 365),
    "AUTOCLASS": (0.020, 0.005, 0.0004, 0, 0),
}
AZURE_TABLE = {
    "HOT": (0.0208, 0.0055, 0.00044, 0, 0),
    "COOL": (0.0115, 0.01, 0.001, 0.01, 30),
    "COLD": (0.0045, 0.018, 0.01, 0.03, 90),
    "ARCHIVE": (0.002, 0.011, 0.55, 0.022, 180),
}
R2_TABLE = {"STANDARD": (0.015, 0.0045, 0.00036, 0, 0)}
TABLES = [(AWS, AWS_TABLE), (GCP, GCP_TABLE), (AZURE, AZURE_TABLE), (R2, R2_TABLE)]


@pytest.mark.parametrize(("book", "table"), TABLES, ids=[book.name for book, _ in TABLES])
def test_every_row_is_as_it_was_entered(book, table):
    assert [entry.name for entry in book.classes] == list(table)
    for entry in book.classes:
        storage, put, get, retrieval, days = table[entry.name]
        priced = (entry.first_usd, float(entry.put_per_1k), float(entry.retrieval_per_gb), entry.min_days)
        assert priced == (storage, put, retrieval, days), entry.name
        assert entry.restore if get is None else float(entry.get_per_1k) == get, entry.name


def test_bands_minima_overheads_steps_and_changes():
    bands = [(float(band.usd), band.up_to_gb) for band in AWS.storage_class("STANDARD").storage]
    assert bands == [(0.023, 50 * 1024), (0.022, 500 * 1024), (0.021, None)]
    by_name = AWS.by_name
    assert {name for name in AWS_TABLE if by_name[name].min_bytes == 128 * KB} == {
        "STANDARD_IA", "ONEZONE_IA", "GLACIER_IR"
    }  # fmt: skip
    for name in ("GLACIER", "DEEP_ARCHIVE"):
        assert by_name[name].overhead_bytes + by_name[name].hot_overhead_bytes == 40 * KB
    assert (float(by_name["STANDARD_IA"].transition_per_1k), float(by_name["GLACIER_IR"].transition_per_1k)) == (
        0.01,
        0.02,
    )
    for book, name, steps in (
        (AWS, "INTELLIGENT_TIERING", [(30, 0.0125), (90, 0.004)]),
        (GCP, "AUTOCLASS", [(30, 0.010), (90, 0.004), (365, 0.0012)]),
    ):
        managed = book.storage_class(name)
        assert [(step.after_days, float(step.usd)) for step in managed.idle_steps] == steps
        assert (float(managed.monitoring_per_1k), managed.managed_from_bytes) == (0.0025, 128 * KB)


def test_the_egress_matrix():
    here = {book: Place(book.provider, "here") for book in (AWS, GCP, AZURE, R2)}
    for book, within, others in ((AWS, 0.02, 0.09), (AZURE, 0.02, 0.0875), (GCP, 0.02, 0.12), (R2, 0, 0)):
        assert egress_per_gb(book, here[book], here[book]) == 0
        assert egress_per_gb(book, here[book], Place(book.provider, "there")) == within
        assert egress_per_gb(book, here[book], Place("another", "there")) == others
        assert egress_per_gb(book, here[book], None) == others


def test_googles_simple_example_in_an_autoclass_bucket_costs_its_watching_more():
    entry, standard = GCP.storage_class("AUTOCLASS"), GCP.storage_class("STANDARD")
    one = np.float64(50 * GB / 10_000)
    stored = 10_000 * object_month(entry, standard, one, np.float64(1), np.float64(0), 30)
    bill = float(stored) + 10_000 * float(entry.put_per_1k) / 1000 + egress_per_gb(GCP, Place("gcp", "us-east1"), None)
    bill += float(read_usd(entry, np.float64(50_000), np.float64(0))[0])
    assert storage_month(standard, 50) == pytest.approx(1.0)
    assert bill == pytest.approx(1.19 + 10_000 * 0.0025 / 1000)
    idle = 10_000 * float(object_month(entry, standard, one, np.float64(0), np.float64(400), 30))
    assert idle == pytest.approx(50 * 0.0012 + 0.025)


def test_fields_of_a_book_are_changed_by_name():
    book = price_documents.to_json(AWS)
    fields = ("STANDARD_IA.retrieval_per_gb=0.02", "egress.internet=0.05", "as_of=2026-01-01", "GLACIER_IR.min_days=60")
    ours = from_json(changed(book, (*fields, 'STANDARD.storage=[{"usd": "0.02"}]')))
    assert float(ours.storage_class("STANDARD_IA").retrieval_per_gb) == 0.02
    assert (float(ours.egress.internet), str(ours.as_of), ours.storage_class("GLACIER_IR").min_days) == (
        0.05, "2026-01-01", 60
    )  # fmt: skip
    assert ours.storage_class("STANDARD").first_usd == 0.02
    with pytest.raises(click.UsageError, match="no class WARM"):
        changed(book, ("WARM.min_days=1",))
    with pytest.raises(click.UsageError, match="FIELD=VALUE"):
        changed(book, ("STANDARD",))
    with pytest.raises(Invalid):
        from_json(changed(book, ("STANDARD.colour=red",)))
