"""The S3 headers that travel with an object's bytes, and the mark of who wrote it."""

from __future__ import annotations

INTENT = "foretide-intent"
"""User metadata that names the migration and claim which wrote an object, so that its own work is recognised."""
METADATA = "x-amz-meta-"
METADATA_LIMIT = 2048
"""Bytes of an object's user metadata, names and values."""
CARRIED = {
    "content_type": "content-type",
    "content_encoding": "content-encoding",
    "cache_control": "cache-control",
    "content_disposition": "content-disposition",
    "content_language": "content-language",
    "expires": "expires",
    "website_redirect": "x-amz-website-redirect-location",
}
"""By the name that they are kept under."""
