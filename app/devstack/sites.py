"""Registers a stack's sites with its API, as an operator would by `foretide sites add`."""

from __future__ import annotations

from collections.abc import Sequence

from app.devstack.processes import PartFailed
from app.devstack.seaweed import RunningSite
from app.devstack.services import Endpoints

PROBE_TIMEOUT_S = 60.0


def register(endpoints: Endpoints, sites: Sequence[RunningSite]) -> None:
    """Register the sites that are not known yet, and await their probes. Raises PartFailed when one cannot be used."""
    from app.client import Client

    with Client(endpoints.url, endpoints.token) as client:
        known = {site["name"]: site for site in client.sites()}
        probes = [client.add_site(site.as_dict())["job_id"] for site in sites if site.name not in known]
        for site in sites:
            if site.name in known and known[site.name]["endpoint_url"] != site.endpoint_url:
                _readdress(site)
                probes.append(client.probe_site(site.name)["id"])
        for probe in probes:
            found = client.wait(client.job(probe), timeout_s=PROBE_TIMEOUT_S)["result"]
            if failed := [f"{name}: {answer['detail']}" for name, answer in found.items() if not answer["ok"]]:
                raise PartFailed("; ".join(failed))


def _readdress(site: RunningSite) -> None:
    """Note the new address of a site whose port was in use at this start."""
    from app.db import sites
    from app.db.session import session_scope

    with session_scope() as session:
        sites.change(session, site.name, endpoint_url=site.endpoint_url)
