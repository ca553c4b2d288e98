"""What stands around a decision, by the command line over the running stack: asked, explained, refused, exported."""

import json

import pytest

from app.errors import ExitCode

MIB = 2**20


@pytest.fixture
def cold(folder):
    """A folder of a few objects that nobody reads and that may go where they cost least."""
    for number in range(3):
        folder.put(f"{number}", bytes([number]) * 8 * MIB, "aws-eu")
    folder.scanned()
    folder.require(readers="routed", rf=1, payback=0, confidence=0)
    return folder


def told(done):
    return json.loads(done.stdout)


def test_a_plan_ends_with_twenty_when_it_holds_changes_and_goes_stale_with_what_drifted(foretide, cold):
    cold.require(readers="routed", rf=2)
    planned = foretide("plan", "--prefix", cold.prefix, "--json", "--detailed-exitcode", "--timeout", "90")
    assert planned.returncode == ExitCode.CHANGES, planned.stderr
    plan_id = str(told(planned)["id"])
    assert foretide("plan", "show", plan_id, "--detailed-exitcode").returncode == ExitCode.CHANGES
    assert foretide("plan", "show", plan_id).returncode == ExitCode.OK
    wrong = foretide("plan", "--prefix", cold.prefix, "--rf", "9", "--detailed-exitcode", "--timeout", "90")
    assert wrong.returncode == ExitCode.POLICY, "an error, with its own code: nothing is feasible"
    cold.require(readers="routed", rf=1)
    cold.put("0", b"another body", "aws-eu")
    cold.scanned()
    stale = foretide("plan", "apply", plan_id, "--yes")
    assert stale.returncode == ExitCode.CONFLICT
    errors = stale.stderr.decode()
    assert "policy sla changed" in errors
    assert f"{cold.prefix}0 is present, at version" in errors
    nothing = foretide("plan", "--prefix", "none/", "--json", "--detailed-exitcode", "--timeout", "90")
    assert nothing.returncode == ExitCode.OK


def test_what_if_shows_both_plans_and_moves_nothing(foretide, cold):
    asked = ("what-if", "--prefix", cold.prefix, "--rf", "2", "--reads", "3", "--timeout", "90")
    shown = foretide(*asked)
    assert shown.returncode == ExitCode.OK, shown.stderr
    table = shown.stdout.decode()
    assert "What if: 2 copies of each object; reads × 3" in table
    assert "DOLLARS A MONTH\tTODAY\tPLAN\tTODAY THEN\tPLAN THEN\tDIFFERENCE" in table
    found = told(foretide(*asked, "--json"))
    assert (found["objects"], found["objects_under_other_rules"]) == (3, 3)
    assert found["what_if"]["moves"] >= found["current"]["moves"] + 3
    lost = told(foretide("what-if", "--prefix", cold.prefix, "--lost", "aws-eu", "--json", "--timeout", "90"))
    assert lost["objects_lost"] == 3
    assert cold.holders(f"{cold.prefix}0") == {"aws-eu"}
    for arguments, code, named in [
        (("what-if", "--prefix", cold.prefix), ExitCode.USAGE, b"say what would be otherwise"),
        (("what-if", "--lost", "mars"), ExitCode.USAGE, b"/lost/0: there is no site mars"),
        (("what-if", "--prices", "aws-eu=ibm"), ExitCode.USAGE, b"/prices/aws-eu"),
        (("what-if", "--rf", "2", "--key", "no-such-key", "--timeout", "90"), ExitCode.NOT_FOUND, b"none of the keys"),
    ]:
        done = foretide(*arguments)
        assert done.returncode == code, (arguments, done.stderr)
        assert named in done.stderr, done.stderr


def test_a_change_of_policy_is_previewed_and_versions_are_compared(foretide, cold, client):
    before = client.policy("residency")[1]
    document = json.dumps({"prefixes": [{"prefix": cold.prefix, "sites": ["gcp-eu"]}]})
    shown = foretide("policy", "preview", "residency", document, "--json", "--timeout", "90")
    assert shown.returncode == ExitCode.OK, shown.stderr
    (row,) = [row for row in told(shown)["by_prefix"] if row["touched"]]
    assert (row["prefix"], row["touched"], row["moves"]) == (cold.prefix, 3, 3)
    assert client.policy("residency")[1] == before, "nothing was written"
    assert cold.prefix in foretide("policy", "preview", "residency", document).stdout.decode()
    assert b"/rf" in foretide("policy", "preview", "sla", "default.rf=0").stderr
    versions = told(foretide("policy", "versions", "sla", "--json"))
    assert versions[0]["version"] == len(versions)
    assert cold.prefix.replace("/", "~1") in foretide("policy", "diff", "sla").stdout.decode()
    assert foretide("policy", "diff", "sla", "900", "901").returncode == ExitCode.NOT_FOUND


def test_break_even_is_told_of_a_key_and_of_a_prefix(foretide, cold):
    one = foretide("explain", f"{cold.prefix}0", "--break-even")
    assert one.returncode == ExitCode.OK, one.stderr
    assert "FLIPS AT" in one.stdout.decode()
    found = told(foretide("explain", "--prefix", cold.prefix, "--json"))
    assert (found["objects"], found["objects_in_all"]) == (3, 3)
    assert {way["from"] for way in found["ways"] if way["held"]} == {"STANDARD"}
    assert foretide("explain").returncode == ExitCode.USAGE
    assert foretide("explain", "--prefix", "none/").returncode == ExitCode.NOT_FOUND
    assert foretide("explain", f"{cold.prefix}0", "--horizon-days", "60").returncode == ExitCode.OK


def test_a_plan_is_exported_as_lifecycle_rules(foretide, cold):
    plan, _ = cold.plan()
    shown = foretide("plan", "export", str(plan["id"]), "--provider", "s3", "--site", "aws-eu")
    assert shown.returncode in (ExitCode.OK, ExitCode.PARTIAL), shown.stderr
    assert set(told(shown)) == {"Rules"}
    assert b"observe" in shown.stderr
    azure = told(foretide("plan", "export", str(plan["id"]), "--provider", "azure", "--json"))
    assert [entry["site"] for entry in azure["sites"]] == ["azure-we"]
    assert foretide("plan", "export", "999999", "--provider", "gcs").returncode == ExitCode.NOT_FOUND


def test_credentials_prices_and_savings_are_told(foretide, cold, client):
    policy = told(foretide("sites", "policy", "aws-eu", "--mode", "observe"))
    assert not [name for entry in policy["Statement"] for name in entry["Action"] if "Put" in name]
    assert b"roles/storage.objectUser" in foretide("sites", "policy", "gcp-eu", "--mode", "auto").stdout
    assert "STANDARD_IA" in foretide("prices", "show", "aws-eu").stdout.decode()
    changed = foretide("prices", "set", "aws-eu", "STANDARD_IA.retrieval_per_gb=0.02", "name=ours", "--yes")
    assert told(changed)["name"] == "ours", changed.stderr
    assert "ours" in foretide("prices", "list").stdout.decode()
    assert b"/classes/0/min_days" in foretide("prices", "set", "aws-eu", "STANDARD.min_days=-1", "--yes").stderr
    assert foretide("prices", "reset", "aws-eu", "--yes").returncode == ExitCode.OK
    assert client.prices("aws-eu")["name"] != "ours"
    assessed = told(foretide("assess", "--site", "aws-eu", "--json"))
    assert (assessed["kind"], assessed["objects"] >= 3) == ("inventory", True)
    assert foretide("assess", "--site", "nowhere").returncode == ExitCode.NOT_FOUND


def test_tags_are_set_by_name(foretide, cold, client):
    key = f"{cold.prefix}1"
    assert told(foretide("objects", "tag", key, "data=personal", "team=a", "--yes", "--json"))["tags"] == {
        "data": "personal", "team": "a",
    }  # fmt: skip
    assert foretide("objects", "tag", key, "team=", "--yes").returncode == ExitCode.OK
    assert next(client.objects(key=key))["tags"] == {"data": "personal"}
    assert foretide("objects", "tag", key, "data", "--yes").returncode == ExitCode.USAGE
    assert foretide("objects", "tag", "no-such-key", "a=b", "--yes").returncode == ExitCode.NOT_FOUND
