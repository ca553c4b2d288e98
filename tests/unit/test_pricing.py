from dataclasses import replace
from decimal import Decimal
from itertools import pairwise

import numpy as np
import pytest

from app.domain import price_documents
from app.domain.price_books import AWS, AZURE, GCP, R2, SHIPPED, shipped
from app.domain.prices import GB, KB, Place, egress_per_gb, storage_month, to_usd
from app.domain.pricing import (
    billable_gb,
    copy_usd,
    early_deletion_usd,
    idle_share,
    object_month,
    put_requests,
    read_usd,
    transition_usd,
)
from app.errors import Invalid


def cents(value):
    return round(float(value) + 1e-12, 2)


# Microsoft's example of four months: files uploaded and read, blobs moved to cool and read back, at its sample prices.
# Its table rounds the large lines to cents, counts fractions of blobs and leaves the penalty out of April's total.
AZURE_MONTHS = [
    # moved to cool, read back, left in cool, left in hot, total
    (0, 0, 0, 1000, 107.53),
    (1000, 100, 900, 1100, 169.69),
    (1050, 105, 945, 1155, 178.00),
    (1077.5, 107.75, 969.75, 1185.25, 182.57),
]


@pytest.mark.parametrize(("moved", "read_back", "in_cool", "in_hot", "total"), AZURE_MONTHS)
def test_microsofts_four_month_invoice_to_the_cent(moved, read_back, in_cool, in_hot, total):
    hot, cool = AZURE.storage_class("HOT"), AZURE.storage_class("COOL")
    upload = 1000 * (float(5 * GB) / (8 * KB * KB) + 1)
    assert upload == 641_000
    lines = [
        cents(upload * float(hot.put_per_1k) / 1000),
        moved * float(cool.put_per_1k) / 1000,
        read_usd(cool, np.float64(2 * read_back), np.float64(0))[0],
        cents(storage_month(cool, in_cool * 5)),
        cents(storage_month(hot, in_hot * 5)),
        read_usd(hot, np.float64(in_hot / 2), np.float64(0))[0],
    ]
    assert cents(sum(lines)) == total


def test_microsofts_ten_days_of_early_deletion():
    # The published line counts a GB a blob: 107.75 GB for the ten days that are left of thirty.
    fee = early_deletion_usd(AZURE.storage_class("COOL"), np.float64(107.75 * GB), np.float64(20))
    assert cents(fee) == 0.41


def test_googles_invoice_to_the_cent():
    standard = GCP.storage_class("STANDARD")
    bill = storage_month(standard, 50) + 10_000 * float(standard.put_per_1k) / 1000
    bill += float(read_usd(standard, np.float64(50_000), np.float64(0))[0])
    bill += egress_per_gb(GCP, Place("gcp", "us-east1"), None)
    assert cents(bill) == 1.19


def test_volume_bands():
    standard = AWS.storage_class("STANDARD")
    assert cents(storage_month(standard, 600_000)) == cents(51_200 * 0.023 + 460_800 * 0.022 + 88_000 * 0.021)
    assert [standard.marginal_usd(v) for v in (0, 51_200, 512_000, 1e9)] == [0.023, 0.022, 0.021, 0.021]


def test_minimum_size_and_overhead_are_billed():
    assert billable_gb(AWS.storage_class("STANDARD_IA"), np.array([0.0, 1.0, 256.0 * KB])) * GB == pytest.approx(
        [128 * KB, 128 * KB, 256 * KB]
    )
    deep, hot = AWS.storage_class("DEEP_ARCHIVE"), AWS.storage_class("STANDARD")
    month = object_month(deep, hot, np.float64(GB), np.float64(0), np.float64(0), 90)
    assert month == pytest.approx(0.00099 * (1 + 32 * KB / GB) + 0.023 * 8 * KB / GB)


def test_a_managed_class_falls_with_idle_days_and_spares_small_objects():
    entry, hot = AWS.storage_class("INTELLIGENT_TIERING"), AWS.storage_class("STANDARD")

    def month(size, rate, idle):
        return float(object_month(entry, hot, np.float64(size), np.float64(rate), np.float64(idle), 90))

    assert month(GB, 0, 0) == pytest.approx(0.023 / 3 + 0.0125 * 2 / 3 + 0.0025 / 1000)
    assert month(GB, 0, 400) == pytest.approx(0.004 + 0.0025 / 1000)
    assert month(GB, 50, 0) == pytest.approx(0.023 + 0.0025 / 1000)
    assert month(64 * KB, 0, 400) == pytest.approx(0.023 * 64 * KB / GB)


def test_idle_share_agrees_with_a_simulation():
    rng = np.random.default_rng(3)
    rate, idle, after, days = 0.05, 12.0, 30.0, 90.0
    shares = []
    for _ in range(4000):
        reads = np.cumsum(rng.exponential(1 / rate, 60))
        edges = np.concatenate([[-idle], reads[reads < days], [days]])
        below = sum(max(0.0, min(b, days) - max(a + after, 0.0)) for a, b in pairwise(edges))
        shares.append(below / days)
    expected = float(idle_share(np.float64(rate), np.float64(idle), after, days))
    assert expected == pytest.approx(np.mean(shares), abs=0.01)


def test_egress_depends_on_where_the_bytes_go():
    here = Place("aws", "eu-west-1")
    targets = (here, Place("aws", "us-east-1"), Place("gcp", "europe-west1"), None)
    assert [egress_per_gb(AWS, here, target) for target in targets] == [0.0, 0.02, 0.09, 0.09]
    assert egress_per_gb(AZURE, Place("azure", "westeurope"), here) == 0.0875
    assert egress_per_gb(R2, Place("cloudflare", "auto"), None) == 0.0


def test_a_copy_pays_list_heads_parts_and_the_verifying_read():
    hot, nearline = AWS.storage_class("STANDARD"), GCP.storage_class("NEARLINE")
    assert put_requests(np.array([0.0, 16 * KB * KB - 1, 16 * KB * KB])) == pytest.approx([1, 1, 4])
    requests = (3 * 0.0004 + 2 * 0.001 + 0.005 / 1000 + 130 * 0.01) / 1000
    assert copy_usd(hot, nearline, np.float64(GB), 0.09) == pytest.approx(requests + 0.09 + 0.01)


def test_a_change_of_class_pays_transition_and_retrieval():
    frozen, hot = AWS.storage_class("GLACIER_IR"), AWS.storage_class("STANDARD")
    assert transition_usd(hot, frozen, np.float64(GB)) == pytest.approx((0.02 + 0.0004 + 0.01) / 1000)
    assert transition_usd(frozen, hot, np.float64(GB)) == pytest.approx((0.005 + 0.0104) / 1000 + 0.03)


def test_early_deletion_ends_with_the_minimum():
    entry = AWS.storage_class("GLACIER_IR")
    fees = early_deletion_usd(entry, np.full(3, float(GB)), np.array([0.0, 60.0, 120.0]))
    assert fees == pytest.approx([0.012, 0.004, 0.0])


@pytest.mark.parametrize("provider", SHIPPED)
def test_a_book_survives_json(provider):
    book = shipped(provider)
    assert price_documents.from_json(price_documents.to_json(book)) == book
    assert book.source
    assert book.as_of.year >= 2024


def test_a_wrong_book_names_every_wrong_field():
    document = price_documents.to_json(AWS)
    document["egress"]["internet"] = "-1"
    document["classes"][0]["storage"] = []
    document["classes"][1]["min_days"] = "thirty"
    document["extra"] = 1
    del document["as_of"]
    with pytest.raises(Invalid) as caught:
        price_documents.from_json(document)
    assert {error.pointer for error in caught.value.errors} == {
        "/egress/internet",
        "/classes/0/storage",
        "/classes/1/min_days",
        "/extra",
        "/as_of",
    }


@pytest.mark.parametrize("document", [None, [], {}, {"classes": {}}, {**price_documents.to_json(R2), "classes": []}])
def test_what_is_no_book_is_refused(document):
    with pytest.raises(Invalid):
        price_documents.from_json(document)


@pytest.mark.parametrize(
    ("tops", "wrong"),
    [(("5",), 0), ((None, None), 0), (("5", "4", None), 1), (("0", None), 0), (("5", None, None), 1), (("5", "9"), 1)],
)
def test_volume_bands_rise_and_only_the_last_has_no_end(tops, wrong):
    document = price_documents.to_json(AWS)
    document["classes"][1]["storage"] = [{"usd": "0.02", "up_to_gb": top} for top in tops]
    with pytest.raises(Invalid) as refused:
        price_documents.from_json(document)
    assert [error.pointer for error in refused.value.errors] == [f"/classes/1/storage/{wrong}/up_to_gb"]


def test_a_number_of_days_that_no_float_holds_is_refused():
    document = price_documents.to_json(AWS)
    document["classes"][0]["min_days"] = 10**400
    with pytest.raises(Invalid) as refused:
        price_documents.from_json(document)
    assert [error.pointer for error in refused.value.errors] == ["/classes/0/min_days"]


def test_unknown_names_are_refused_by_name():
    with pytest.raises(Invalid, match="only for aws, gcp, azure, cloudflare"):
        shipped("ibm")
    with pytest.raises(Invalid, match="no storage class WARM"):
        AWS.storage_class("WARM")


def test_standard_means_the_first_class_everywhere():
    assert AZURE.storage_class("STANDARD").name == "HOT"
    assert replace(GCP, name="mine").storage_class("").name == "STANDARD"


def test_dollars_are_stored_with_twelve_decimals():
    assert to_usd(1e-9 / 3) == Decimal("0.000000000333")
