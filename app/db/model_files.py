"""Models' files under their seals; what serves in place of one that is refused (steps: learn, predict).

A refused file raises the alert model_refused and changes no state: a process with a wrong key must not retire anything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from sqlalchemy import delete, func, select, update
from sqlalchemy.orm import Session

from app.db import alerts, models
from app.db.keys import Resealed, derived
from app.db.tables import Json, ModelArtifact, ModelVersion
from app.domain import seals
from app.domain.seals import Seal
from app.errors import ArtifactRefused, NotFound

PACKED, SKOPS, BASELINE = "packed", "skops", "baseline"
CALIBRATION, OUTCOMES = "calibration", "outcomes"
ALERT = "model_refused"
EARLIER = 5
"""So many earlier champions are tried when the champion's file is refused."""
T = TypeVar("T")


@dataclass(frozen=True)
class Serving(Generic[T]):
    """What serves: a version's own file, or what stands in for it."""

    version: ModelVersion
    form: str
    opened: T
    refused: str = ""
    """Why the champion's own file does not serve; empty when it does."""


def add(session: Session, version: ModelVersion, form: str, body: bytes) -> None:
    """Keeps a model's file under its seal. Raises SettingsError without a secret key."""
    seal = seals.seal(body, _file_name(version, form), _signing_keys()[0])
    session.add(ModelArtifact(model_version_id=version.id, format=form, sha256=seal.sha256, hmac=seal.hmac, body=body))


def read(session: Session, version: ModelVersion, form: str) -> bytes:
    """The file's bytes. Raises NotFound without one, and ArtifactRefused unless it is exactly what was sealed."""
    row = session.get(ModelArtifact, (version.id, form), populate_existing=True)
    if row is None:
        raise NotFound(f"model {version.name} version {version.version} has no {form} file")
    seals.check(row.body, _file_name(version, form), _signing_keys(), Seal(row.sha256, row.hmac))
    return row.body


def put(session: Session, version: ModelVersion, form: str, body: bytes) -> None:
    """As `add`, in place of the file that there may be."""
    session.execute(
        delete(ModelArtifact).where(ModelArtifact.model_version_id == version.id, ModelArtifact.format == form)
    )
    add(session, version, form, body)


def mark(session: Session, version: ModelVersion, form: str) -> str:
    """The file's digest; empty where there is none. It changes when the file does."""
    found = select(ModelArtifact.sha256).where(
        ModelArtifact.model_version_id == version.id, ModelArtifact.format == form
    )
    return session.scalar(found) or ""


def reseal(session: Session) -> Resealed:
    """Seals every file anew that an older key sealed; one that no key has sealed stays refused."""
    renewed, refused, kept = 0, [], 0
    versions = {version.id: version for version in session.scalars(select(ModelVersion))}
    keys = session.execute(select(ModelArtifact.model_version_id, ModelArtifact.format)).all()
    for version_id, form in sorted(keys):
        row = session.get(ModelArtifact, (version_id, form), with_for_update=True)
        if row is None:
            continue  # deleted meanwhile
        name, sealed = _file_name(versions[version_id], form), Seal(row.sha256, row.hmac)
        try:
            place = seals.check(row.body, name, _signing_keys(), sealed)
        except ArtifactRefused:
            refused.append(f"model file {name}")
            continue
        finally:
            session.expunge(row)  # one file at a time in memory
        if place == 0:
            kept += 1
            continue
        session.execute(
            update(ModelArtifact)
            .where(ModelArtifact.model_version_id == version_id, ModelArtifact.format == form)
            .values(hmac=seals.seal(row.body, name, _signing_keys()[0]).hmac)
        )
        renewed += 1
    return Resealed(renewed, kept, tuple(refused))


def has(session: Session, version: ModelVersion, form: str) -> bool:
    """Whether there is such a file, whatever is in it."""
    return bool(mark(session, version, form))


def listing(session: Session, version: ModelVersion) -> list[Json]:
    """The version's files without their bytes."""
    columns = (ModelArtifact.format, ModelArtifact.sha256, ModelArtifact.hmac, func.length(ModelArtifact.body))
    rows = session.execute(
        select(*columns).where(ModelArtifact.model_version_id == version.id).order_by(ModelArtifact.format)
    )
    return [dict(zip(("format", "sha256", "hmac", "bytes"), row, strict=True)) for row in rows]


def refusal(session: Session, version: ModelVersion) -> ArtifactRefused | None:
    """Why the version may not serve: a file of it is refused, which raises the alert, or it has none; else None."""
    files = listing(session, version)
    if not files:
        return ArtifactRefused(f"model {version.name} version {version.version} has no file any more")
    for file in files:
        try:
            read(session, version, file["format"])
        except ArtifactRefused as error:
            _alert(session, version, error.detail)
            return error
    return None


def serving(session: Session, name: str, open_file: Callable[[bytes], T]) -> Serving[T] | ArtifactRefused | None:
    """What serves: the champion, else the last good champion before it, else the champion's best baseline.

    None before the first champion; the refusal where nothing is good. Each refused file raises the alert, so the
    caller raises the refusal only after its transaction. open_file: raises ArtifactRefused for what it cannot use.
    """
    champion = models.champion(session, name)
    if champion is None:
        return None
    first: ArtifactRefused | None = None
    for version, form in _options(session, champion):
        try:
            opened = open_file(read(session, version, form))
        except (ArtifactRefused, NotFound) as error:
            why = error if isinstance(error, ArtifactRefused) else ArtifactRefused(error.detail)
            first = first or why
            continue
        if first is None:
            alerts.clear(session, ALERT, _subject(champion))
            return Serving(version, form, opened)
        instead = f"the baseline of version {version.version}" if form == BASELINE else f"version {version.version}"
        _alert(session, champion, f"{first.detail}; {instead} serves instead")
        return Serving(version, form, opened, first.detail)
    if first is not None:
        _alert(session, champion, first.detail)
    return first


def renewed(session: Session, found: Serving[T], open_file: Callable[[T, bytes], T]) -> Serving[T]:
    """What serves with the calibration that was renewed since its training, where there is one (step: watch).

    A refused calibration raises the alert, and the version serves with its own. open_file: raises ArtifactRefused.
    """
    if found.form != PACKED or not has(session, found.version, CALIBRATION):
        return found
    try:
        return replace(found, opened=open_file(found.opened, read(session, found.version, CALIBRATION)))
    except ArtifactRefused as error:
        _alert(session, found.version, f"{error.detail}; it serves with the calibration of its training")
        return found


def _options(session: Session, champion: ModelVersion) -> Iterator[tuple[ModelVersion, str]]:
    yield champion, PACKED
    for version in models.earlier(session, champion, EARLIER):
        yield version, PACKED
    yield champion, BASELINE


def _alert(session: Session, version: ModelVersion, detail: str) -> None:
    data = {"name": version.name, "version": version.version}
    alerts.raise_alert(session, ALERT, "critical", detail, subject=_subject(version), data=data)


def _subject(version: ModelVersion) -> str:
    return f"{version.name} {version.version}"


def _signing_keys() -> tuple[bytes, ...]:
    return tuple(key.hex().encode() for key in derived(b"model-files"))


def _file_name(version: ModelVersion, form: str) -> str:
    return f"{version.name}/{version.version}/{form}"
