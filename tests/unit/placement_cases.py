"""Sites and objects that the tests of placement share."""

from app.domain.demand import Demand, RegionReads
from app.domain.placement_problem import Held, Item, Problem, SiteOption
from app.domain.policies import Readers, Rules
from app.domain.price_books import shipped
from app.domain.prices import GB

AWS = SiteOption(
    "aws-eu",
    "aws",
    "eu-west-1",
    30,
    ("STANDARD", "INTELLIGENT_TIERING", "STANDARD_IA", "ONEZONE_IA", "GLACIER_IR", "GLACIER", "DEEP_ARCHIVE"),
    shipped("aws"),
)
AZURE = SiteOption("azure-we", "azure", "westeurope", 45, ("HOT", "COOL", "COLD", "ARCHIVE"), shipped("azure"))
GCP = SiteOption("gcp-eu", "gcp", "europe-west1", 60, ("STANDARD", "NEARLINE", "COLDLINE", "ARCHIVE"), shipped("gcp"))
SITES = (AWS, AZURE, GCP)
ROUTED = Rules(readers=Readers.ROUTED)
DIRECT = Rules(readers=Readers.DIRECT)


def demand(reads_a_month, size, region="eu-west-1", shape=50.0, idle=0.0):
    day = reads_a_month / 30
    return Demand((RegionReads(region, day, day * size),), shape, idle)


def item(reads=0.0, size=GB, rules=ROUTED, held=None, region="eu-west-1", shape=50.0, moved=None, number=1):
    held = (Held("aws-eu", "STANDARD", 100.0, True),) if held is None else held
    return Item(number, f"k{number}", 1, size, held, demand(reads, size, region, shape), rules, moved)


def problem(*items, sites=SITES):
    return Problem(tuple(sites), tuple(items))
