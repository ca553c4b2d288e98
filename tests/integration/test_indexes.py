"""What is asked of a table once for each object or copy has an index: at a million rows no pass may read them all."""

import pytest
from sqlalchemy import text

ASKED = {
    "intent_id = 'x'": "ix_migration_intent_id",
    "object_id in (1, 2) and started_at is not null": "ix_migration_object_id",
    "ready_by between now() - interval '1 day' and now()": "ix_migration_ready_by",
    "plan_id = 1 and object_id > 2 order by object_id limit 5": "ix_migration_plan_object",
}
FILL = """
insert into migration (job_id, plan_id, object_id, object_version, kind, state, intent_id, bytes_total)
select 1, n % 1000, n / 10, 1, 'move', 'done', n::text, 1 from generate_series(1, 20000) n
"""


@pytest.fixture
def filled(session):
    """Many migrations, of jobs and objects that are left out: nothing but the planner looks at them."""
    session.execute(text("set local session_replication_role = replica"))
    session.execute(text(FILL))
    session.execute(text("analyze migration"))
    return session


@pytest.mark.parametrize("condition", ASKED)
def test_what_is_asked_of_migrations_for_each_object_has_an_index(filled, condition):
    plan = "\n".join(filled.scalars(text(f"explain select * from migration where {condition}")))
    assert ASKED[condition] in plan
