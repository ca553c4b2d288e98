"""Every router of the API."""

from __future__ import annotations

from app.api import (
    accesses,
    alerts,
    audit,
    batches,
    break_even,
    compat,
    evacuation,
    exports,
    faults,
    findings,
    health,
    jobs,
    migrations,
    model_life,
    models,
    objects,
    openapi,
    permissions,
    placement,
    plans,
    policies,
    prices,
    routing,
    runs,
    savings,
    sites,
    tees,
    tidying,
    tokens,
    verification,
)

ROUTERS = tuple(
    module.router
    for module in (
        sites,
        permissions,
        prices,
        evacuation,
        findings,
        objects,
        accesses,
        models,
        model_life,
        batches,
        placement,
        break_even,
        plans,
        exports,
        savings,
        migrations,
        tees,
        verification,
        tidying,
        routing,
        policies,
        alerts,
        jobs,
        runs,
        tokens,
        audit,
        health,
        openapi,
        compat,
    )
)
CHAOS = (faults.router, compat.chaos)
"""Registered only where FORETIDE_CHAOS is set, which production refuses."""
