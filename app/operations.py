"""The SDK's whole-life operations: what is done with objects and sites beside planning, moving and reading them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any
from urllib.parse import quote

from app.blocks import IngestReport, send_blocks
from app.errors import NotFound
from app.transport import Json, Transport, given


class Operations:
    """The part of `app.client.Client` that mends, proves, empties and disturbs."""

    _api: Transport

    # -- Import

    def import_inventory(
        self, site: str, lines: Iterable[Json], on_block: Callable[[IngestReport], None] | None = None
    ) -> IngestReport:
        """Adds objects that an inventory tells of: mappings of key, size, etag, last_modified and storage_class."""
        return send_blocks(self._api, f"/sites/{part(site)}/inventory", lines, strict=False, on_block=on_block)

    # -- Ask

    def what_if(self, **otherwise: Any) -> Json:
        """Starts to compare the plan with that under `rf`, `sla_ms`, `residency`, `lost`, `reads_times`, `prices`.

        Over `prefix` or `keys`, within `horizon_days`; the job, whose result holds both and their difference.
        """
        return self._api.start("/what-if", given(otherwise))

    def break_even(
        self, *, key: str | None = None, prefix: str | None = None, horizon_days: float | None = None
    ) -> Json:
        """The card of an object, or of a sample of those under a prefix: where classes break even, what is owed."""
        return self._api.get("/break-even", **given({"key": key, "prefix": prefix, "horizon_days": horizon_days}))

    def preview_policy(self, name: str, document: Json) -> Json:
        """Starts to tell what a policy's document would change if it were put; the job, its result as what_if's."""
        return self._api.start(f"/policies/{part(name)}:preview", document)

    def policy_versions(self, name: str) -> Iterator[Json]:
        """Every version of a policy, the newest first."""
        return self._api.pages(f"/policies/{part(name)}/versions")

    def policy_diff(self, name: str, old: int | None = None, new: int | None = None) -> Json:
        """What differs between two versions; the newest and the one before it unless told otherwise."""
        return self._api.get(f"/policies/{part(name)}/diff", **given({"from": old, "to": new}))

    def site_policy(self, name: str, mode: str = "observe", principal: str | None = None) -> Json:
        """The least that a site's credentials must be allowed in a mode. principal: an ARN, for a bucket policy."""
        return self._api.get(f"/sites/{part(name)}/policy", **given({"mode": mode, "principal": principal}))

    def export_plan(self, plan_id: int, form: str, site: str | None = None) -> Json:
        """A plan's demotions in place as rules: form is s3-lifecycle, gcs-lifecycle or azure-policy."""
        return self._api.get(f"/plans/{plan_id}/export", **given({"format": form, "site": site}))

    def savings(self) -> Json:
        """What changes of class have cost beside having stayed: over all, by cohort, and where demotions stopped."""
        return self._api.get("/savings")

    # -- Models

    def model(self, name: str) -> tuple[Json, str]:
        """Who serves, who is shadow and who waits, and the ETag that changes of its life take."""
        return self._api.document(f"/models/{part(name)}")

    def model_versions(self, name: str) -> Iterator[Json]:
        """Every version of a model, the newest first."""
        return self._api.pages(f"/models/{part(name)}/versions")

    def evaluations(self, name: str) -> Iterator[Json]:
        """What each version was measured at, beside its baselines and its champion, the newest first."""
        return self._api.pages(f"/models/{part(name)}/evaluations")

    def importances(self, name: str, version: int | None = None) -> Json:
        """Which features a version goes by; the one that serves unless told otherwise."""
        return self._api.get(f"/models/{part(name)}/importances", version=version)

    def drift(self, name: str) -> Json:
        """How far what the serving version sees is from what it saw when it was trained."""
        return self._api.get(f"/models/{part(name)}/drift")

    def change_version(self, name: str, version: int, verb: str, reason: str, etag: str) -> Json:
        """verb: promote, shadow or retire; the version afterwards. etag: of the model as it was read."""
        path = f"/models/{part(name)}/versions/{version}:{verb}"
        return self._api.change("POST", path, {"reason": reason}, etag=etag)

    def roll_back_model(self, name: str, reason: str, etag: str) -> Json:
        """Lets the version serve again that served before; that version."""
        return self._api.change("POST", f"/models/{part(name)}:rollback", {"reason": reason}, etag=etag)

    def predict_batch(self, name: str = "tier", *, prefix: str | None = None, rows: list[Json] | None = None) -> Json:
        """Starts to score all objects, those of a prefix, or rows; the job, whose result tells how many pages."""
        return self._api.start(f"/models/{part(name)}:predict-batch", given({"prefix": prefix, "rows": rows}))

    def train_over_events(self, name: str, events: bytes, **recipe: Any) -> Json:
        """Starts to train a model of this name; the job.

        events: gzipped NDJSON; recipe: algorithm, features and params, both split by commas, target, time, seed, …
        """
        headers = {"Content-Type": "application/x-ndjson", "Content-Encoding": "gzip"}
        return self._api.start_with(f"/models/{part(name)}:train", events, headers, given(recipe))

    def delete_model(self, name: str, version: int | None = None) -> None:
        """Deletes a model over own events, or a version of it that does not serve."""
        self._api.change("DELETE", f"/models/{part(name)}" + (f"/versions/{version}" if version else ""))

    def model_file(self, name: str, version: int, form: str = "onnx") -> bytes:
        """A version's file. form: onnx, or packed for arrays as npz."""
        path = f"/models/{part(name)}/versions/{version}/artifact"
        return self._api.send("GET", path, params={"format": form}).content

    def serving_version(self, name: str) -> int:
        """The version that serves. Raises NotFound where none does."""
        champion = self._api.get(f"/models/{part(name)}").get("champion")
        if champion is None:
            raise NotFound(f"no version of model {name} serves")
        return int(champion["version"])

    def batch_page(self, name: str, job_id: int, number: int) -> bytes:
        """A page of a batch's results as NDJSON."""
        return self._api.send("GET", f"/models/{part(name)}/batches/{job_id}/pages/{number}").content

    # -- Batch operations

    def start_batch(self, operation: str, **what: Any) -> Json:
        """Starts an operation over `events`, a `topic` or `accesses`, for a join with `other` too; the job.

        The rest of `what` is its parameters, as POST /v1/batch takes them.
        """
        return self._api.start("/batch", {"operation": operation} | given(what))

    def start_batch_over(self, operation: str, events: bytes, **what: Any) -> Json:
        """The same over many events. events: gzipped NDJSON, for a join both streams, the left one of `left` events."""
        headers = {"Content-Type": "application/x-ndjson", "Content-Encoding": "gzip"}
        return self._api.start_with("/batch", events, headers, {"operation": operation} | given(what))

    def batch_lines(self, job: Json) -> Iterator[bytes]:
        """The pages of an operation's result as NDJSON, of a job that has succeeded."""
        for number in range(1, job["result"]["pages"] + 1):
            yield self._api.send("GET", f"/batch/{job['id']}/pages/{number}").content

    def batch_engine(self) -> Json:
        """Which engine runs what does not ask for one, and why."""
        return self._api.get("/batch/engine")

    def exports(self) -> Iterator[Json]:
        """Days of accesses that lie at a site as Parquet, the newest first."""
        return self._api.pages("/exports")

    def run_export(self) -> Json:
        """Starts to export the days that are due; the job. Raises Conflict where no site is set."""
        return self._api.start("/exports:run")

    # -- Metrics

    def metrics(self, window: float | None = None) -> Iterator[Json]:
        """Every stream, a metric and a group, with its window of so many seconds."""
        return self._api.pages("/metrics", window=window)

    def metric(self, name: str, **asked: Any) -> Json:
        """A metric's window by `window`, `group`, `group_by`, `limit`, `cursor`."""
        return self._api.get(f"/metrics/{part(name)}", **given(asked))

    def metric_groups(self, name: str, window: float | None = None) -> Iterator[Json]:
        """The window of each of a metric's groups."""
        cursor = None
        while True:
            page = self.metric(name, window=window, group_by="group", limit=500, cursor=cursor)
            yield from page["groups"]
            cursor = page["next_cursor"]
            if not cursor:
                return

    def top(self, name: str, **asked: Any) -> Json:
        """What of a metric weighs most: `k` groups or, `by` item, items in `window` seconds."""
        return self._api.get("/metrics:top", name=name, **given(asked))

    def reset_metric(self, name: str) -> None:
        """Removes a metric's samples. Raises NotFound."""
        self._api.change("DELETE", f"/metrics/{part(name)}")

    # -- Prices

    def price_books(self) -> list[Json]:
        """Every price book, shipped or a site's own, with the sites that it holds for."""
        return list(self._api.pages("/prices"))

    def set_prices(self, site: str, book: Json, etag: str | None = None) -> Json:
        """Gives a site a price book of its own; the book. Raises Invalid, naming the fields that are wrong.

        etag: of the book that was read, if only that is to be replaced.
        """
        return self._api.change("PUT", f"/sites/{part(site)}/prices", book, etag=etag)

    def reset_prices(self, site: str) -> Json:
        """Gives a site the shipped book of its provider again; the book."""
        return self._api.change("DELETE", f"/sites/{part(site)}/prices")

    # -- Tag

    def tag_object(self, object_id: int, tags: dict[str, str], etag: str | None = None) -> Json:
        """Replaces an object's tags in the catalogue, which residency policies may go by; the object.

        etag: of the object that was read, if only that is to be changed.
        """
        return self._api.change("PUT", f"/objects/{object_id}", {"tags": tags}, etag=etag)

    # -- Undo

    def roll_back_plan(self, plan_id: int, *, apply: bool = False, dry_run: bool = False) -> Json:
        """Starts to undo a plan; the job. apply: also carries out the plan that moves back what was deleted."""
        return self._api.start(f"/plans/{plan_id}:rollback", {"apply": apply, "dry_run": dry_run})

    # -- Prove

    def verify_migration(self, migration_id: int, *, dry_run: bool = False) -> Json:
        """Starts to read the replicas of a migration's object again; the job."""
        return self._api.start(f"/migrations/{migration_id}:verify", {"dry_run": dry_run})

    def verify_objects(self, *, dry_run: bool = False, **selection: Any) -> Json:
        """Starts to read replicas again, by prefix, keys and site; the job. dry_run: only tells what that costs."""
        return self._api.start("/objects:verify", given(selection) | {"dry_run": dry_run})

    def scrub_site(self, name: str, *, deep: bool = False, dry_run: bool = False, prefix: str | None = None) -> Json:
        """Starts to compare a site with the catalogue; the job. deep: reads every replica again."""
        body = {"deep": deep, "dry_run": dry_run, "prefix": prefix}
        return self._api.start(f"/sites/{part(name)}:scrub", given(body))

    def findings(self, site: str, **filters: Any) -> Iterator[Json]:
        """What the site's scrubs have found, by kind, open or resolved."""
        return self._api.pages(f"/sites/{part(site)}/findings", **filters)

    # -- Mend

    def repair(self, *, apply: bool = False, dry_run: bool = False, **selection: Any) -> Json:
        """Starts to plan the copies that objects lack, by prefix and keys; the job. apply: carries the plan out too."""
        return self._api.start("/objects:repair", given(selection) | {"apply": apply, "dry_run": dry_run})

    # -- Tidy

    def tidy_site(self, name: str, *, dry_run: bool = False, prefix: str | None = None) -> Json:
        """Starts to remove leftover copies and orphaned uploads at a site; the job."""
        return self._api.start(f"/sites/{part(name)}:tidy", given({"dry_run": dry_run, "prefix": prefix}))

    def remove_copies(self, keys: list[str], *, dry_run: bool = False) -> Json:
        """Starts to remove what is left of objects that their owner deleted; the job. Raises Conflict for others."""
        return self._api.start("/objects:remove-copies", {"keys": keys, "dry_run": dry_run})

    # -- Empty

    def drain_site(self, name: str) -> Json:
        """Lets a site receive nothing more; the site."""
        return self._api.change("POST", f"/sites/{part(name)}:drain", {})

    def undrain_site(self, name: str) -> Json:
        """Lets a site be used again once its probe has passed; the site, with the probe's job_id."""
        return self._api.change("POST", f"/sites/{part(name)}:undrain", {})

    def evacuate_site(self, name: str, *, dry_run: bool = False) -> Json:
        """Drains a site and starts to move what it holds elsewhere; the job."""
        return self._api.start(f"/sites/{part(name)}:evacuate", {"dry_run": dry_run})

    # -- Accesses

    def rebuild_sums(self, since: str, until: str) -> Json:
        """Starts to count hourly sums anew, of the UTC days from `since` to `until`; the job. Raises Conflict."""
        return self._api.start("/accesses:rebuild", {"since": since, "until": until})

    # -- Chaos, where it is enabled

    def faults(self) -> list[Json]:
        """The injected faults in force. Raises NotFound where chaos is not enabled."""
        return list(self._api.pages("/chaos"))

    def put_faults(self, site: str, **faults: Any) -> list[Json]:
        """Begins (true) and ends (false) faults of a site: fail, latency, throttle, corrupt; p, ms, status, ttl."""
        changed: list[Json] = self._api.change("PUT", f"/chaos/sites/{part(site)}", given(faults))["items"]
        return changed

    def clear_faults(self, site: str | None = None) -> None:
        """Ends every fault of a site, or all."""
        self._api.change("DELETE", f"/chaos/sites/{part(site)}" if site else "/chaos")


def part(name: str) -> str:
    """A name as one part of a path."""
    return quote(name, safe="")
