"""`foretide doctor` on a database that is up to date, on one that is not, and on one that is not there."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from app.__main__ import main
from app.db import schema, server
from app.db import session as database_session
from app.settings import Settings, get_settings

Configure = Callable[..., Settings]


@pytest.fixture
def findings(capsys: pytest.CaptureFixture[str]) -> Callable[[], dict[str, dict[str, object]]]:
    def examine() -> dict[str, dict[str, object]]:
        main(["doctor", "--json"])
        return {finding["name"]: finding for finding in json.loads(capsys.readouterr().out)}

    return examine


def test_what_is_well_and_that_no_worker_runs(clean_database: str, findings):
    found = findings()
    assert {name: found[name]["ok"] for name in ("python", "disk", "database", "schema", "broker", "sites")} == {
        "python": True,
        "disk": True,
        "database": True,
        "schema": True,
        "broker": True,
        "sites": True,
    }
    assert not found["workers"]["ok"]
    assert "./foretide worker" in str(found["workers"]["mend"])


def test_a_schema_that_is_not_there_names_the_command(stack, configure: Configure, findings):
    url = get_settings().database_url + "_empty"
    server.create_database(stack.database_url, url.rpartition("/")[2])
    database_session.dispose()
    configure(database_url=url)
    found = findings()
    assert found["schema"]["detail"] == f"the database stands at no revision, the program needs {schema.head()}"
    assert found["schema"]["mend"] == "./foretide db upgrade"
    database_session.dispose()
    server.drop_database(stack.database_url, url.rpartition("/")[2])


def test_a_database_that_does_not_answer_is_one_line(configure: Configure, findings, capsys):
    database_session.dispose()
    configure(database_url="postgresql://nobody:nothing@127.0.0.1:1/nowhere")
    assert not findings()["database"]["ok"]
    assert main(["doctor"]) == 1
    assert "WRONG database" in capsys.readouterr().out
    database_session.dispose()
