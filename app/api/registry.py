"""Every router of the API, in the order in which the OpenAPI document shows them."""

from __future__ import annotations

from app.api import accesses, health, jobs, openapi

ROUTERS = (accesses.router, jobs.router, health.router, openapi.router)
