"""The one order in which transactions lock rows, so that none waits for another in a circle.

Jobs first, a child before its parent and else by id; then objects by id; then migrations by id; then what belongs to
them: replicas, budgets, alerts. Whoever cannot keep to it passes over rows that are locked already.

Every lock is FOR NO KEY UPDATE: a FOR UPDATE would also wait for, and hold up, the checks of foreign keys by those who
write rows that belong to a job or an object, against the order.
"""

from __future__ import annotations

from sqlalchemy import ColumnElement, select

from app.db.tables import Migration

NO_KEY = {"key_share": True}
"""For Session.get and get_one: FOR NO KEY UPDATE."""


def in_order(*which: ColumnElement[bool]) -> ColumnElement[bool]:
    """Those migrations, locked in the order of their ids: for a statement that changes several."""
    chosen = select(Migration.id).where(*which).order_by(Migration.id).with_for_update(key_share=True)
    return Migration.id.in_(chosen.scalar_subquery())
