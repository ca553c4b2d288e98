"""The API describes itself: a valid OpenAPI document, and pages that ask no other host."""

from __future__ import annotations

from openapi_spec_validator import OpenAPIV31SpecValidator

from app.api.router import routes
from tests.integration.conftest import Api


def test_the_document_is_valid_and_whole(api: Api):
    document = api.get("/openapi.json", role=None).json
    OpenAPIV31SpecValidator(document).validate()
    operations = [operation for methods in document["paths"].values() for operation in methods.values()]
    assert len(operations) == len(routes(api.app))
    assert len({operation["operationId"] for operation in operations}) == len(operations)
    assert all(operation["summary"] for operation in operations)


def test_docs_are_served_from_here(api: Api):
    page = api.get("/docs", role=None)
    assert page.status_code == 200
    assert "http://" not in page.text.replace("http://www.w3.org", "")
    assert "https://" not in page.text
    assert "default-src 'self'" in page.headers["Content-Security-Policy"]
    assert api.get("/ui/static/foretide.css", role=None).status_code == 200
