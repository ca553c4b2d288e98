"""The table of exports: days of accesses that lie at a site as Parquet."""

from __future__ import annotations

from datetime import date, datetime

from sqlalchemy import ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from app.db.tables_base import NOW, Base


class AccessExport(Base):
    """A day's file at a site, written only after it was proven to hold what was exported."""

    __tablename__ = "access_export"
    day: Mapped[date] = mapped_column(primary_key=True)
    site_id: Mapped[int] = mapped_column(ForeignKey("site.id", ondelete="CASCADE"), index=True)
    key: Mapped[str]
    version: Mapped[int]
    """Grows each time that the day is exported again because accesses of it came late."""
    rows: Mapped[int]
    bytes: Mapped[int]
    blocks: Mapped[int]
    """Ingested blocks that had lines in the day or around it before it was read: more of them, and it is outdated."""
    sha256: Mapped[str]
    etag: Mapped[str]
    exported_at: Mapped[datetime] = mapped_column(server_default=NOW)
