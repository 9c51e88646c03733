"""What the API says about itself: the OpenAPI document, its examples, the page that shows it, and the names in its errors."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate
from starlette.testclient import TestClient

from infra.storage.local import LocalStore
from serving.access import clients
from serving.api.app import create_app
from tests.serving.own_data import draw_shop
from tests.serving.versions import draw, promote_version, publish, settings_of

KEY = "key-of-this-test-of-24-characters"


@pytest.fixture(scope="module", params=[draw, draw_shop], ids=["numbers", "text"])
def client(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    root = tmp_path_factory.mktemp("described")
    request.param(root / "v1", 1)
    promote_version(LocalStore(root / "store"), publish(LocalStore(root / "store"), root / "v1").version)
    with TestClient(create_app(settings_of(root)), raise_server_exceptions=False) as client:
        yield client


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """A server without a model."""
    root = tmp_path_factory.mktemp("empty")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clients, "WRONG_KEYS_AT_ONCE", 1000)
        with TestClient(create_app(settings_of(root, limits={"api_keys": [KEY]})), raise_server_exceptions=False) as client:
            yield client


def described(client: TestClient) -> Any:
    return client.get("/openapi.json").json()


def operations(document: Any) -> list[tuple[str, str, Any]]:
    return [(method, path, it) for path, found in document["paths"].items() for method, it in found.items()]


def test_the_document_is_valid_and_each_operation_has_a_tag_that_is_explained_and_a_summary(client: TestClient) -> None:
    document = described(client)
    validate(document)
    explained = {tag["name"] for tag in document["tags"] if tag["description"]}
    assert len(operations(document)) == 15
    for method, path, operation in operations(document):
        assert len(operation["tags"]) == 1 and set(operation["tags"]) <= explained, (method, path)
        assert operation["summary"] and operation["description"].endswith("."), (method, path)


def test_each_example_of_a_request_is_answered_as_described(client: TestClient) -> None:
    document = described(client)
    sent = 0
    for method, path, operation in operations(document):
        given = {each["name"]: each["example"] for each in operation.get("parameters", ()) if "example" in each}
        required = {each["name"] for each in operation.get("parameters", ()) if each["required"]}
        assert required <= given.keys(), (method, path)
        if path == "/pages/{key}":
            continue  # a store without pages
        address = path.format(**given)
        query = {each["name"]: each["example"] for each in operation.get("parameters", ()) if each["in"] == "query"}
        bodies = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("examples", {})
        assert bool(bodies) == (method == "post"), (method, path)
        for body in [each["value"] for each in bodies.values()] or [None]:
            answer = client.request(method, address, params=query, json=body)
            assert answer.status_code == 200, (path, body, answer.text)
            sent += 1
            if answer.headers["content-type"] == "application/json":
                checked(document, operation["responses"]["200"]["content"]["application/json"]["schema"], answer.json())
    assert sent >= 19


def test_each_example_of_an_answer_fits_its_schema(client: TestClient) -> None:
    document = described(client)
    found = 0
    for _, path, operation in operations(document):
        content = operation["responses"]["200"]["content"]
        if "application/json" in content and not path.startswith("/pages/"):
            checked(document, content["application/json"]["schema"], content["application/json"]["example"])
            found += 1
    assert found == 12
    checked(document, {"$ref": "#/components/schemas/Problem"}, document["components"]["schemas"]["Problem"]["examples"][0])


def checked(document: Any, schema: Any, value: Any) -> None:
    Draft202012Validator({**schema, "components": document["components"]}).validate(value)


def test_the_documentation_loads_nothing_but_this_servers_files(client: TestClient) -> None:
    page = client.get("/docs")
    addresses = re.findall(r'(?:src|href)="([^"]*)"', page.text)
    assert addresses == ["docs/swagger-ui.css", "docs/favicon-32x32.png", "docs/swagger-ui-bundle.js"]
    for address in addresses:
        file = client.get(f"/{address}")
        assert file.status_code == 200 and len(file.content) > 500 and "max-age" in file.headers["cache-control"]
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "http" not in policy and "script-src 'self' 'sha256-" in policy
    assert client.get("/docs/main.py").status_code == 404 and client.get("/redoc").status_code == 404


def test_the_start_says_where_things_are_to_a_program_and_to_a_person(client: TestClient, empty: TestClient) -> None:
    found = client.get("/", headers={"Accept": "*/*"}).json()
    champion = client.get("/v1/models").json()["served"][0]["version"]
    assert (found["model_name"], found["champion"]) == ("ranker", champion)
    addresses = [each for name, each in found.items() if name not in ("model_name", "champion")]
    assert len(addresses) == 7 and all(client.get(f"/{address}").status_code == 200 for address in addresses)
    page = client.get("/", headers={"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"})
    assert page.headers["content-type"].startswith("text/html") and champion[:16] in page.text
    assert all(f'href="{address}"' in page.text for address in addresses)
    assert empty.get("/", headers={"X-API-Key": KEY}).json()["champion"] is None
    assert "No model is served yet" in empty.get("/", headers={"X-API-Key": KEY, "Accept": "text/html"}).text
    validate(empty.get("/openapi.json", headers={"X-API-Key": KEY}).json())


@pytest.mark.parametrize("path", ["/", "/docs", "/docs/swagger-ui.css", "/openapi.json", "/pages/", "/pages/x"])
def test_a_browser_is_asked_for_the_key_where_a_person_looks_and_nowhere_else(empty: TestClient, path: str) -> None:
    asked = empty.get(path)
    assert asked.status_code == 401 and asked.headers["www-authenticate"].startswith("Basic ")
    assert empty.get(path, auth=("", KEY)).status_code != 401
    assert empty.get(path, auth=("", f"{KEY}x")).status_code == 401
    assert empty.get(path, headers={"Authorization": "Basic ***"}).status_code == 401
    for method, other in (("get", "/v1/models"), ("post", "/v1/recommendations"), ("post", path)):
        refused = empty.request(method, other, auth=("", KEY))
        assert refused.status_code == 401 and refused.headers["www-authenticate"] == "ApiKey"


@pytest.mark.parametrize(
    ("method", "path", "sent", "status", "said"),
    [
        ("post", "/v1/recommendations", {"json": {"user": 1}}, 422, "body.user: unknown field; did you mean user_id? Known: user_id, history, k"),
        ("post", "/v1/recommendations", {"json": {"zzz": 1}}, 422, "body.zzz: unknown field. Known: user_id, history, k"),
        ("post", "/v1/recommendations", {"json": {"history": [{"item_id": 1, "tme": 1}]}}, 422, "history.0.tme: unknown field; did you mean time? Known: item_id, time"),
        ("post", "/v1/events", {"json": {"events": [{"user_id": 1}]}}, 422, "events.0.item_id: is missing. Known: user_id, item_id, time, event_id"),
        ("post", "/v1/events", {"json": {}}, 422, "body.events: is missing. Known: events"),
        ("post", "/v1/events", {"json": [1]}, 422, "body: must be an object. Known: events"),
        ("post", "/v1/recommendations", {}, 422, "body: is missing. Known: user_id"),
        ("post", "/v1/recommendations", {"content": b"{}", "headers": {"Content-Type": "application/x-www-form-urlencoded"}}, 415, "Send JSON, with the header Content-Type: application/json"),
        ("post", "/v1/recommendations", {"content": b"{}"}, 415, "has no content type"),
        ("get", "/v1/items", {"params": {"text": "star"}}, 422, "query.query: is missing; text is unknown. Known: query, limit"),
    ],
)  # fmt: skip
def test_an_error_names_what_is_known(client: TestClient, method: str, path: str, sent: Any, status: int, said: str) -> None:
    answer = client.request(method, path, **sent)
    assert answer.status_code == status and said in answer.json()["detail"], answer.text
