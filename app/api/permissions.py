"""What a site's credentials must be allowed, by mode."""

from __future__ import annotations

from pydantic import Field

from app.api.router import Router
from app.api.schemas import In, Json
from app.db import policies, sites
from app.db.session import session_scope
from app.domain.permissions import document
from app.domain.policies import any_rules
from app.domain.roles import Role
from app.domain.states import Mode

router = Router("permissions")


class PermissionsQuery(In):
    """For which mode, and for whom."""

    mode: Mode = Mode.OBSERVE
    principal: str | None = Field(
        None, pattern=r"^[\x21-\x7e]{1,2048}$", description="An ARN: makes AWS's document a bucket policy."
    )


@router.get("/sites/<name:name>/policy", Role.VIEWER, query=PermissionsQuery)
def get_site_policy(name: str, query: PermissionsQuery) -> Json:
    """The least that the site's credentials must be allowed in a mode: AWS's policy document, or a provider's roles."""
    with session_scope() as session:
        site, rules = sites.get(session, name), policies.load(session)
        known = sites.facts(site).capabilities
        provider, bucket, probed = site.provider, site.bucket, site.probed_at is not None
    return {"site": name} | document(
        query.mode,
        provider,
        bucket,
        allow_restore=any_rules(rules, "allow_restore"),
        versioning=known.versioning or not probed,
        principal=query.principal,
    )
