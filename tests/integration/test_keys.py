"""The secret key is changed for a new one: what the old one sealed is read, put under the new one, refused without."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from click.testing import CliRunner, Result

from app.cli.root import cli
from app.db import model_files as files
from app.db import models, sites
from app.db.session import session_scope
from app.db.sites import NewSite
from app.errors import ArtifactRefused, SettingsError
from app.settings import Settings
from tests.learning import by_feature, version

OLD, NEW = "the old key of this installation", "the new key of this installation"


def reseal() -> Result:
    return CliRunner().invoke(cli, ["db", "reseal", "--json"], standalone_mode=False)


def read() -> str:
    """The site's secret, once the model's file is read too."""
    with session_scope() as session:
        files.read(session, models.get(session, "tier", 1), files.PACKED)
        return sites.address(sites.get(session, "eu")).secret_key


@pytest.fixture
def kept(clean_database: str, configure: Callable[..., Settings]) -> None:
    """A site and a model's file under the old key."""
    configure(secret_key=OLD)
    version(by_feature(), serve="first")
    with session_scope() as session:
        sites.add(session, NewSite("eu", "aws", "eu-west-1", "http://127.0.0.1:1", "b", "access", "its secret"))


def test_keys_are_rotated_step_by_step(kept: None, configure: Callable[..., Settings]):
    for keys in (f"{OLD},{NEW}", f"{NEW}, {OLD}"):
        configure(secret_key=keys)
        assert read() == "its secret"
    done = reseal()
    nothing_refused = {"refused": []}
    assert json.loads(done.stdout) == {
        "site_secrets": {"renewed": 1, "as_they_were": 0, **nothing_refused},
        "model_files": {"renewed": 1, "as_they_were": 0, **nothing_refused},
    }
    assert json.loads(reseal().stdout)["model_files"] == {"renewed": 0, "as_they_were": 1, **nothing_refused}
    configure(secret_key=NEW)
    assert read() == "its secret"
    configure(secret_key=OLD)
    with pytest.raises(ArtifactRefused):
        read()
    with pytest.raises(SettingsError), session_scope() as session:
        sites.address(sites.get(session, "eu"))


def test_a_key_that_was_taken_away_too_soon_is_told(kept: None, configure: Callable[..., Settings]):
    configure(secret_key=NEW)
    with pytest.raises(ArtifactRefused, match="FORETIDE_SECRET_KEY"):
        read()
    done = reseal()
    assert done.return_value == 7
    assert json.loads(done.stdout)["site_secrets"] == {"renewed": 0, "as_they_were": 0, "refused": ["site eu"]}
    assert "model file tier/1/packed" in done.stderr
    configure(secret_key=f"{NEW},{OLD}")
    assert read() == "its secret", "what was refused stayed as it was"


def test_keys_that_cannot_be(configure: Callable[..., Settings]):
    for keys, production in ((f"{NEW},,", False), (f"{NEW},short", True)):
        with pytest.raises(SettingsError, match="FORETIDE_SECRET_KEY"):
            configure(secret_key=keys, environment="production" if production else "development")
