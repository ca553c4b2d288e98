"""The shipped price books: dated facts entered by hand, each with its source; a site's own book replaces it."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

from app.domain.prices import KB, Band, Egress, IdleStep, PriceBook, StorageClass
from app.errors import Invalid

D = Decimal


def _flat(usd: str) -> tuple[Band, ...]:
    return (Band(D(usd)),)


_AWS_STANDARD = (Band(D("0.023"), D(51_200)), Band(D("0.022"), D(512_000)), Band(D("0.021")))
_AWS_LIST = D("0.005")

AWS = PriceBook(
    name="aws-us-2025-11",
    provider="aws",
    source="Amazon S3 pricing, US East (N. Virginia)",
    as_of=date(2025, 11, 1),
    egress=Egress(D(0), D("0.02"), D("0.09"), D("0.09")),
    classes=(
        StorageClass("STANDARD", _AWS_STANDARD, D("0.005"), D("0.0004"), _AWS_LIST),
        StorageClass(
            "INTELLIGENT_TIERING",
            _AWS_STANDARD,
            D("0.005"),
            D("0.0004"),
            _AWS_LIST,
            transition_per_1k=D("0.01"),
            monitoring_per_1k=D("0.0025"),
            managed_from_bytes=128 * KB,
            idle_steps=(IdleStep(30, D("0.0125")), IdleStep(90, D("0.004"))),
        ),
        StorageClass(
            "STANDARD_IA",
            _flat("0.0125"),
            D("0.01"),
            D("0.001"),
            _AWS_LIST,
            retrieval_per_gb=D("0.01"),
            transition_per_1k=D("0.01"),
            min_days=30,
            min_bytes=128 * KB,
        ),
        StorageClass(
            "ONEZONE_IA",
            _flat("0.01"),
            D("0.01"),
            D("0.001"),
            _AWS_LIST,
            retrieval_per_gb=D("0.01"),
            transition_per_1k=D("0.01"),
            min_days=30,
            min_bytes=128 * KB,
        ),
        StorageClass(
            "GLACIER_IR",
            _flat("0.004"),
            D("0.02"),
            D("0.01"),
            _AWS_LIST,
            retrieval_per_gb=D("0.03"),
            transition_per_1k=D("0.02"),
            min_days=90,
            min_bytes=128 * KB,
        ),
        StorageClass(
            "GLACIER",
            _flat("0.0036"),
            D("0.03"),
            D("0.05"),
            _AWS_LIST,
            retrieval_per_gb=D("0.01"),
            transition_per_1k=D("0.03"),
            min_days=90,
            overhead_bytes=32 * KB,
            hot_overhead_bytes=8 * KB,
            archive=True,
            restore=True,
        ),
        StorageClass(
            "DEEP_ARCHIVE",
            _flat("0.00099"),
            D("0.05"),
            D("0.1"),
            _AWS_LIST,
            retrieval_per_gb=D("0.02"),
            transition_per_1k=D("0.05"),
            min_days=180,
            overhead_bytes=32 * KB,
            hot_overhead_bytes=8 * KB,
            archive=True,
            restore=True,
        ),
    ),
)

GCP = PriceBook(
    name="gcp-us-2025-11",
    provider="gcp",
    source="Cloud Storage pricing, US regions",
    as_of=date(2025, 11, 1),
    egress=Egress(D(0), D("0.02"), D("0.12"), D("0.12")),
    classes=(
        StorageClass("STANDARD", _flat("0.020"), D("0.005"), D("0.0004"), D("0.005")),
        StorageClass(
            "NEARLINE", _flat("0.010"), D("0.01"), D("0.001"), D("0.01"), retrieval_per_gb=D("0.01"), min_days=30
        ),
        StorageClass(
            "COLDLINE", _flat("0.004"), D("0.02"), D("0.01"), D("0.02"), retrieval_per_gb=D("0.02"), min_days=90
        ),
        StorageClass(
            "ARCHIVE",
            _flat("0.0012"),
            D("0.05"),
            D("0.05"),
            D("0.05"),
            retrieval_per_gb=D("0.05"),
            min_days=365,
            archive=True,
        ),
        StorageClass(
            "AUTOCLASS",
            _flat("0.020"),
            D("0.005"),
            D("0.0004"),
            D("0.005"),
            monitoring_per_1k=D("0.0025"),
            managed_from_bytes=128 * KB,
            idle_steps=(IdleStep(30, D("0.010")), IdleStep(90, D("0.004")), IdleStep(365, D("0.0012"))),
        ),
    ),
)

AZURE = PriceBook(
    name="azure-sample-2024-07",
    provider="azure",
    source="Microsoft's sample prices: azure-docs, articles/storage/blobs/blob-storage-estimate-costs.md",
    as_of=date(2024, 7, 26),
    sample=True,
    egress=Egress(D(0), D("0.02"), D("0.0875"), D("0.0875")),
    classes=(
        StorageClass(
            "HOT",
            (Band(D("0.0208"), D(51_200)), Band(D("0.020"))),
            D("0.0055"),
            D("0.00044"),
            D("0.0055"),
        ),
        StorageClass(
            "COOL", _flat("0.0115"), D("0.01"), D("0.001"), D("0.0055"), retrieval_per_gb=D("0.01"), min_days=30
        ),
        StorageClass(
            "COLD", _flat("0.0045"), D("0.018"), D("0.01"), D("0.0065"), retrieval_per_gb=D("0.03"), min_days=90
        ),
        StorageClass(
            "ARCHIVE",
            _flat("0.002"),
            D("0.011"),
            D("0.55"),
            D("0.0055"),
            retrieval_per_gb=D("0.022"),
            min_days=180,
            archive=True,
            restore=True,
        ),
    ),
)

R2 = PriceBook(
    name="cloudflare-2025-11",
    provider="cloudflare",
    source="Cloudflare R2 pricing",
    as_of=date(2025, 11, 1),
    egress=Egress(D(0), D(0), D(0), D(0)),
    classes=(StorageClass("STANDARD", _flat("0.015"), D("0.0045"), D("0.00036"), D("0.0045")),),
)

SHIPPED: dict[str, PriceBook] = {book.provider: book for book in (AWS, GCP, AZURE, R2)}


def shipped(provider: str) -> PriceBook:
    """The shipped book of a provider. Raises Invalid, naming those that there are."""
    try:
        return SHIPPED[provider]
    except KeyError:
        raise Invalid(
            f"no price book is shipped for provider {provider}, only for {', '.join(SHIPPED)}; give the site its own"
        ) from None
