"""A plan as providers' lifecycle rules, for a team that lets its provider change the classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

from pydantic import Field
from sqlalchemy.orm import Session

from app.api.router import Router
from app.api.schemas import In, Json, Name
from app.db import lifecycle as store
from app.db import plans, prices, sites
from app.db.session import session_scope
from app.db.tables import Plan, Site
from app.domain.lifecycle import Group, LeftOut, rules
from app.domain.lifecycle_documents import WRITERS, Format, Writer, format_of
from app.domain.roles import Role

router = Router("exports")
NOTES = (
    "Rules go by the age since an object was written, and hold for objects that come later too.",
    "Where they are put, keep Foretide in observe mode for that site, or its moves and theirs will fight.",
)
HOTTER = "to a hotter class: providers' rules only go to colder ones"
NO_RULE = "the provider has no rule to this class"
BETWEEN = "a {} between sites: a bucket's rules know no other bucket"


class ExportQuery(In):
    """Whose rules, and for which site."""

    format: Format
    site: Name | None = Field(None, description="Only this one of the sites at such a provider.")


@router.get("/plans/<id:plan_id>/export", Role.VIEWER, query=ExportQuery)
def export_plan(plan_id: int, query: ExportQuery) -> Json:
    """The plan's demotions in place as a provider's rules, by site; what no rule can say is listed with its reason."""
    with session_scope() as session:
        plan = plans.get(session, plan_id)
        known = [sites.get(session, query.site)] if query.site else sites.listing(session)
        mine = [site for site in known if format_of(site.provider) is query.format]
        exported = [_site(session, plan, site, WRITERS[query.format]) for site in mine]
    others = [site.name for site in known if site not in mine]
    return {"plan_id": plan_id, "format": query.format, "sites": exported, "other_sites": others, "notes": list(NOTES)}


def _site(session: Session, plan: Plan, site: Site, writer: Writer) -> dict[str, Any]:
    book = prices.get(session, site.name)
    names = sites.facts(site).capabilities.class_names if writer is WRITERS[Format.S3] else {}
    order = [entry.name for entry in book.classes]
    groups = [
        replace(
            group,
            storage_class=book.storage_class(group.storage_class).name,
            target=None if group.target is None else book.storage_class(group.target).name,
        )
        for group in store.groups(session, plan, site)
    ]
    sayable, left = _sayable(groups, order, writer)
    found, more = rules(sayable, order, writer.dialect)
    left += more
    left += [
        LeftOut(BETWEEN.format(entry.kind.value), entry.objects, entry.bytes)
        for entry in store.elsewhere(session, plan.id, site.id)
    ]
    theirs = [replace(rule, storage_class=names.get(rule.storage_class, rule.storage_class)) for rule in found]
    return {
        "site": site.name,
        "bucket": site.bucket,
        "document": writer.write(plan.id, site.bucket, theirs),
        "rules": [asdict(rule) for rule in found],
        "objects": sum(rule.objects for rule in found),
        "bytes": sum(rule.bytes for rule in found),
        "left_out": [asdict(entry) for entry in left],
    }


def _sayable(groups: Sequence[Group], order: Sequence[str], writer: Writer) -> tuple[list[Group], list[LeftOut]]:
    """The groups with those whose change no rule can say as if they stayed; and these, by reason."""
    kept: list[Group] = []
    left: dict[str, LeftOut] = {}
    for group in groups:
        if group.target is None:
            reason = ""
        elif order.index(group.target) < order.index(group.storage_class):
            reason = HOTTER
        else:
            reason = "" if writer.knows(group.target) else NO_RULE
        if reason:
            entry = left.setdefault(reason, LeftOut(reason))
            entry.objects += group.objects
            entry.bytes += group.bytes
            entry.prefixes = [*entry.prefixes, group.folder][:20]
        kept.append(replace(group, target=None) if reason else group)
    return kept, list(left.values())
