"""What is asked of a table once for each object or copy has an index: at a million rows no pass may read them all."""

import pytest
from sqlalchemy import text

ASKED = {
    "intent_id = 'x'": "ix_migration_intent_id",
    "object_id in (1, 2) and started_at is not null": "ix_migration_object_id",
    "plan_id = 1 and object_id > 2 order by object_id limit 5": "ix_migration_plan_object",
}


@pytest.mark.parametrize("condition", ASKED)
def test_what_is_asked_of_migrations_for_each_object_has_an_index(session, condition):
    session.execute(text("set local enable_seqscan = off"))
    plan = "\n".join(session.scalars(text(f"explain select * from migration where {condition}")))
    assert ASKED[condition] in plan
