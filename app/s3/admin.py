"""Makes the buckets of the embedded sites: the devstack's only need of S3."""

from __future__ import annotations

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

PROBE_KEY = ".foretide-ready"


def try_bucket(endpoint_url: str, access_key: str, secret_key: str, region: str, bucket: str) -> bool:
    """Make the bucket unless it stands, then put, get and delete an object in it; False when any of it fails."""
    client = boto3.client(
        "s3",
        endpoint_url=endpoint_url,
        aws_access_key_id=access_key,
        aws_secret_access_key=secret_key,
        region_name=region,
        config=Config(
            signature_version="s3v4",
            s3={"addressing_style": "path"},
            retries={"total_max_attempts": 1},
            connect_timeout=2,
            read_timeout=10,
        ),
    )
    try:
        if all(found["Name"] != bucket for found in client.list_buckets()["Buckets"]):
            client.create_bucket(Bucket=bucket)
        client.put_object(Bucket=bucket, Key=PROBE_KEY, Body=b"ready")
        body = client.get_object(Bucket=bucket, Key=PROBE_KEY)["Body"].read()
        client.delete_object(Bucket=bucket, Key=PROBE_KEY)
    except (BotoCoreError, ClientError):
        return False
    return body == b"ready"
