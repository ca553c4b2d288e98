"""The embedded parts are real, and the fixtures over them keep tests apart."""

from __future__ import annotations

import boto3
import pytest
import redis
from botocore.exceptions import ClientError
from sqlalchemy import text
from sqlalchemy.orm import Session

from app.db import server
from app.db.session import session_scope
from app.devstack.seaweed import RunningSite
from app.devstack.stack import Stack
from app.settings import get_settings


def s3(site: RunningSite, secret_key: str | None = None):
    return boto3.client(
        "s3",
        endpoint_url=site.endpoint_url,
        aws_access_key_id=site.access_key,
        aws_secret_access_key=secret_key or site.secret_key,
        region_name=site.region,
    )


def test_every_part_is_embedded_and_named(stack: Stack):
    assert [component.name for component in stack.components] == [
        "database",
        "broker",
        "site aws-eu",
        "site azure-we",
        "site gcp-eu",
    ]
    assert all(component.mode == "embedded" for component in stack.components)
    assert not any(stack.secret_key in component.address for component in stack.components)


def test_postgres_keeps_what_it_has_acknowledged(session: Session):
    assert session.scalar(text("SHOW fsync")) == "on"
    assert session.scalar(text("SHOW password_encryption")) == "scram-sha-256"


def test_postgres_and_valkey_refuse_a_wrong_password(stack: Stack):
    assert server.server_version(stack.database_url.replace("foretide:", "foretide:x")) is None
    with pytest.raises(redis.AuthenticationError):
        redis.Redis.from_url(stack.broker_url.replace("redis://:", "redis://:x")).ping()


def test_valkey_keeps_messages_and_never_evicts(stack: Stack):
    client = redis.Redis.from_url(stack.broker_url)
    wanted = {"appendonly": "yes", "appendfsync": "everysec", "maxmemory-policy": "noeviction"}
    assert {name: client.config_get(name)[name] for name in wanted} == wanted


def test_each_site_takes_its_own_credentials_only(sites: dict[str, RunningSite]):
    site, other = sites["aws-eu"], sites["gcp-eu"]
    s3(site).put_object(Bucket=site.bucket, Key="a b", Body=b"x")
    assert s3(site).get_object(Bucket=site.bucket, Key="a b")["Body"].read() == b"x"
    with pytest.raises(ClientError, match="SignatureDoesNotMatch"):
        s3(site, secret_key=other.secret_key).list_objects_v2(Bucket=site.bucket)


def test_a_committing_test_leaves_its_rows(clean_database: str):
    with session_scope() as session:
        session.execute(text("INSERT INTO price_book (name, source, as_of, book) VALUES ('n', 's', now(), '{}')"))


def test_the_next_test_does_not_see_them(session: Session):
    assert session.scalar(text("SELECT count(*) FROM price_book")) == 0


def test_settings_point_at_the_test_database(database_url: str):
    assert get_settings().database_url == database_url
