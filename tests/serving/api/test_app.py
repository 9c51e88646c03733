"""The HTTP interface: what it answers, refuses and reports."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families
from starlette.testclient import TestClient

from configs.errors import SettingsError
from configs.loading import load_settings
from configs.serving import ServingSettings
from infra.storage.local import LocalStore
from models.ss4rec import SS4Rec
from serving.access import clients
from serving.api.app import create_app
from serving.engine import ServedModel
from serving.run import as_json
from tests.serving.versions import START, draw, full_pass, promote_version, publish, settings_of

HISTORY = [(105, START), (110, START + 60), (120, START + 4000)]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("serving")
    draw(root / "v1", 1)
    promote_version(LocalStore(root / "store"), publish(LocalStore(root / "store"), root / "v1").version)
    return root


@pytest.fixture(scope="module")
def trained(root: Path) -> SS4Rec:
    return SS4Rec.load(root / "v1")


@pytest.fixture(scope="module")
def client(root: Path) -> Iterator[TestClient]:
    with TestClient(create_app(settings_of(root, batch={"cache_s": 0})), raise_server_exceptions=False) as client:
        yield client


def recommend(client: TestClient, **body: Any) -> Any:
    return client.post("/v1/recommendations", json=body)


def check_problem(response: Any, status: int, said: str = "") -> None:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    found = response.json()
    assert found["status"] == status and found["detail"] and said in response.text
    assert found["instance"] == f"urn:request:{response.headers['x-request-id']}"


def test_recommendations_follow_each_event(client: TestClient, trained: SS4Rec) -> None:
    version = None
    for number in range(1, 4):
        item, at = HISTORY[number - 1]
        told = client.post("/v1/events", json={"events": [{"user_id": 1, "item_id": item, "time": at, "event_id": f"e{number}"}]})
        assert told.status_code == 200 and told.json()["results"][0]["outcome"] == "applied"
        version = told.json()["results"][0]["version"]
        now = START + 10_000
        found = recommend(client, user_id=1, k=3, time=now).json()
        scores = full_pass(trained, [item for item, _ in HISTORY[:number]], [at for _, at in HISTORY[:number]], now)
        scores[np.isin(trained.catalogue, [item for item, _ in HISTORY[:number]])] = -np.inf
        best = np.argsort(-scores)[:3]
        assert [item["item_id"] for item in found["items"]] == trained.catalogue[best].tolist()
        assert [item["score"] for item in found["items"]] == pytest.approx(scores[best].tolist(), abs=1e-4)
        assert (found["version"], found["source"], found["events"]) == (version, "state", number)
    again = client.post("/v1/events", json={"events": [{"user_id": 1, "item_id": 139, "event_id": "e1"}]})
    assert again.json()["results"][0]["outcome"] == "duplicate"
    kept = client.get("/v1/users/1/events").json()
    assert [(event["item_id"], event["time"]) for event in kept["events"]] == HISTORY and kept["count"] == 3
    assert client.get("/v1/users/2/events").json() == {"user_id": 2, "count": 0, "events": []}


def test_a_request_may_bring_a_history_and_filters_and_ask_for_reasons(client: TestClient) -> None:
    history = [{"item_id": item, "time": at} for item, at in HISTORY]
    found = recommend(client, history=history, k=100, genres=["Comedy"], year_from=1975, year_to=1990, explain=True).json()
    assert found["source"] == "history" and found["user_id"] is None and found["items"]
    for item in found["items"]:
        assert "Comedy" in item["genres"] and 1975 <= item["year"] <= 1990 and item["because"]["item_id"] in (105, 110, 120)
    assert recommend(client, history=[]).json()["source"] == recommend(client).json()["source"] == "cold"


def test_films_are_found_by_title_by_similarity_and_for_a_new_user(client: TestClient) -> None:
    found = client.get("/v1/items", params={"query": "film 10", "limit": 3}).json()["items"]
    assert len(found) == 3 and all("Film 10" in item["title"] for item in found)
    similar = client.get("/v1/items/105/similar", params={"k": 4}).json()
    assert similar["item"]["item_id"] == 105 and len(similar["items"]) == 4
    assert 105 not in [item["item_id"] for item in similar["items"]]
    assert len(client.get("/v1/onboarding", params={"count": 5}).json()["items"]) == 5
    check_problem(client.get("/v1/items/999999/similar"), 404, "999999")


def test_movie_id_is_still_accepted(client: TestClient) -> None:
    """Clients of earlier versions know an item's id by that name."""
    told = [{"user_id": 31, name: 105, "time": START} for name in ("movie_id", "item_id")]
    results = client.post("/v1/events", json={"events": told}).json()["results"]
    assert [each["outcome"] for each in results] == ["applied", "duplicate"]
    former, current = (
        recommend(client, history=[{name: 105, "time": START}], time=START + 60, k=3, explain=True).json()
        for name in ("movie_id", "item_id")
    )
    assert former == current and former["source"] == "history" and former["items"][0]["because"]["item_id"] == 105
    check_problem(recommend(client, history=[{"movie_id": -1}]), 422, "body.history.0.movie_id")
    check_problem(recommend(client, history=[{"time": START}]), 422, "body.history.0.item_id")


def test_the_api_says_what_it_serves_and_whether_it_is_ready(client: TestClient, root: Path, tmp_path: Path) -> None:
    models = client.get("/v1/models").json()
    assert [model["role"] for model in models["served"]] == ["champion"] and models["promotion"] == 1
    assert client.get("/healthz").json() == {"status": "alive"}
    assert client.get("/readyz").json() == {"status": "ready", "detail": ""}
    with TestClient(create_app(settings_of(tmp_path, poll_s=3600))) as empty:
        assert empty.get("/healthz").status_code == 200
        for response in (empty.get("/readyz"), recommend(empty, user_id=1), empty.get("/v1/onboarding")):
            check_problem(response, 503)
            assert response.headers["retry-after"] == "1"


BAD: list[tuple[str, dict[str, Any]]] = [
    ("k", {"k": 0}),
    ("k", {"k": -1}),
    ("500", {"k": 501}),
    ("user_id", {"user_id": "1"}),
    ("user_id", {"user_id": -1}),
    ("user_id", {"user_id": 2**63}),
    ("user_id", {"user_id": 2.0**53}),
    ("user_id", {"user_id": 1.5}),
    ("user_id", {"user_id": True}),
    ("time", {"time": -5}),
    ("time", {"time": 1_700_000_000_000}),
    ("history.0.time", {"history": [{"item_id": 105, "time": -1}]}),
    ("history.0.item_id", {"history": [{"time": 5}]}),
    ("10,000", {"history": [{"item_id": 105}] * 10_001}),
    ("history", {"history": "105"}),
    ("year_from", {"year_from": 2000, "year_to": 1999}),
    ("unheard", {"unheard": 1}),
    ("explain", {"explain": "yes"}),
    ("genres", {"genres": ["x"] * 51}),
    ("version", {"version": "../etc"}),
]


@pytest.mark.parametrize(("said", "body"), BAD, ids=[str(body)[:50] for _, body in BAD])
def test_the_refusal_of_an_invalid_request_names_the_faulty_field(client: TestClient, said: str, body: dict[str, Any]) -> None:
    check_problem(recommend(client, **body), 422, said)


def test_unknown_genres_versions_and_routes_are_not_found(client: TestClient) -> None:
    check_problem(recommend(client, genres=["Ünbekannt 映画"]), 404, "Ünbekannt")
    check_problem(recommend(client, version="20200101T000000Z-abc"), 404, "GET /v1/models")
    check_problem(client.get("/v2/recommendations"), 404)
    check_problem(client.get("/v1/recommendations"), 405)


def test_unusual_but_valid_requests_are_answered(client: TestClient) -> None:
    def films(**body: Any) -> list[int]:
        response = recommend(client, **body)
        assert response.status_code == 200, response.text
        return [item["item_id"] for item in response.json()["items"]]

    assert len(films(k=500)) == 40  # more than there are
    assert len(films(history=[{"item_id": 105, "time": START + i} for i in range(10_000)], k=500)) == 39
    assert films(history=[{"item_id": 10**9}]) == films()  # a film that nobody knows
    repeated = [{"item_id": 105, "time": START}] * 3
    assert len(films(history=repeated)) == 10 and 105 not in films(history=repeated, k=40)
    assert films(user_id=2**63 - 1) == films(user_id=0) == films()
    assert len(films(time=0)) == len(films(time=2**33)) == 10
    assert len(films(history=[{"item_id": 105, "time": 0}, {"item_id": 106, "time": 2**33}])) == 10
    assert films(exclude=list(range(139)), k=40) == [139]
    assert len(films(user_id=3.0)) == 10  # the same number in JSON


def test_ids_are_exact_up_to_the_largest(client: TestClient) -> None:
    user, item = 2**63 - 1, 2**53 + 1
    event = {"user_id": user, "item_id": item, "time": START}
    assert client.post("/v1/events", json={"events": [event]}).json()["results"][0]["outcome"] == "applied"
    assert client.get(f"/v1/users/{user}/events").json()["events"][0]["item_id"] == item
    assert client.get(f"/v1/users/{user - 1}/events").json()["count"] == 0


def test_an_impossible_event_is_refused_and_no_event_of_its_request_is_applied(client: TestClient) -> None:
    def told(*events: dict[str, Any]) -> Any:
        return client.post("/v1/events", json={"events": list(events)})

    good = {"user_id": 50, "item_id": 105, "time": START}
    check_problem(told(good, good | {"time": int(time.time()) + 4000}), 422, "ahead of this server's clock")
    check_problem(told(good, good | {"time": -1}), 422, "events.1.time")
    check_problem(told(good, {"user_id": 50}), 422, "item_id")
    check_problem(told(), 422, "events")
    check_problem(told(*[good] * 1001), 422, "1,000")
    check_problem(told(good | {"event_id": ""}), 422, "event_id")
    assert client.get("/v1/users/50/events").json()["count"] == 0
    both = told(good, good, good | {"item_id": 777_777, "event_id": "ünïcode 映画 \U0001f3ac"}).json()["results"]
    assert [(result["outcome"], result["known"]) for result in both] == [
        ("applied", True), ("duplicate", True), ("applied", False),
    ]  # fmt: skip
    now = told({"user_id": 51, "item_id": 105})  # at this moment
    assert now.status_code == 200
    assert abs(client.get("/v1/users/51/events").json()["events"][0]["time"] - time.time()) < 60


@pytest.mark.parametrize("body", [b"", b"{", b"[1]", b"null", b"\xff\xfe", b'{"k": NaN}', b"[" * 2000])
def test_a_body_that_is_not_a_request_is_refused(client: TestClient, body: bytes) -> None:
    response = client.post("/v1/recommendations", content=body, headers={"content-type": "application/json"})
    assert response.status_code in (400, 422) and response.headers["content-type"] == "application/problem+json"


def test_half_of_a_surrogate_pair_is_refused_and_breaks_nothing(client: TestClient) -> None:
    json_type = {"content-type": "application/json"}
    genres = client.post("/v1/recommendations", content=b'{"genres": ["\\ud800"]}', headers=json_type)
    event = b'{"events": [{"user_id": 55, "item_id": 105, "event_id": "\\udc00"}]}'
    for response in (genres, client.post("/v1/events", content=event, headers=json_type)):
        check_problem(response, 400, "not valid JSON")


def test_a_bug_becomes_a_problem_response_without_a_traceback(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: ServedModel, index: int, k: int) -> None:
        raise ZeroDivisionError("secret")

    monkeypatch.setattr(ServedModel, "similar", broken)
    response = client.get("/v1/items/105/similar")
    check_problem(response, 500)
    assert "secret" not in response.text


def test_a_request_keeps_its_id_or_gets_one(client: TestClient) -> None:
    assert client.get("/healthz", headers={"X-Request-Id": "shop-17.a"}).headers["x-request-id"] == "shop-17.a"
    made = client.get("/healthz", headers={"X-Request-Id": "no good\u00e9".encode()}).headers["x-request-id"]
    assert len(made) == 16 and made != client.get("/healthz").headers["x-request-id"]


def test_metrics_report_routes_versions_sources_ages_and_redis(client: TestClient) -> None:
    recommend(client, user_id=60)
    client.post("/v1/events", json={"events": [{"user_id": 60, "item_id": 105}]})
    version = recommend(client, user_id=60).json()["version"]
    text = client.get("/metrics").text
    values = {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert values["recsys_requests_total", *sorted(("/v1/recommendations", "200"))] >= 2
    assert values["recsys_request_seconds_count", *sorted(("/v1/recommendations", "champion"))] >= 1
    assert values["recsys_answers_total", *sorted(("champion", "state"))] >= 1
    assert values["recsys_answers_total", *sorted(("champion", "cold"))] >= 1
    assert 0 <= time.time() - values["recsys_promotion_log_read_timestamp_seconds",] < 3600
    assert values["recsys_events_total", "applied"] >= 1 and values["recsys_state_age_seconds_count",] >= 1
    assert values["recsys_model_info", *sorted((version, "ss4rec", "champion"))] == 1
    assert values["recsys_promotion",] == 1 and values["recsys_redis_up",] == 0 and values["recsys_batch_jobs_count",] >= 2


ONE, TWO = "one-key-of-a-client", "two-keys-are-accepted"


def test_keys_are_required_and_rates_and_sizes_are_limited(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clients, "time", SimpleNamespace(monotonic=lambda: 1000.0))  # another guess is allowed each second
    limits = {"api_keys": [ONE, TWO], "rate_per_s": 0.001, "burst": 3, "body_bytes": 2000}
    with TestClient(create_app(settings_of(root, limits=limits))) as client:
        for headers in ({}, {"X-API-Key": "three"}):
            check_problem(client.post("/v1/recommendations", json={}, headers=headers), 401, "X-API-Key")
        for number in range(20):  # guesses are limited, and do not count against the clients that have a key
            guess = client.post("/v1/recommendations", json={}, headers={"X-API-Key": f"guess {number}"})
            assert guess.status_code == (401 if number < 8 else 429), number
        check_problem(guess, 429, "without a valid key")
        for path in ("/healthz", "/readyz", "/metrics"):
            assert client.get(path).status_code == 200
        key = {"X-API-Key": TWO}
        check_problem(client.post("/v1/recommendations", content=b" " * 2001, headers=key), 413, "2,001")
        check_problem(client.post("/v1/recommendations", content=iter([b" " * 1500] * 2), headers=key), 413, "2,000")
        assert client.post("/v1/recommendations", json={}, headers=key).status_code == 200
        assert client.post("/v1/recommendations", json={}, headers=key).status_code == 200
        refused = client.post("/v1/recommendations", json={}, headers=key)
        check_problem(refused, 429)
        assert int(refused.headers["retry-after"]) > 1
        assert client.post("/v1/recommendations", json={}, headers={"X-API-Key": ONE}).status_code == 200
        assert client.get("/openapi.json", headers={"X-API-Key": ONE}).json()["security"] == [{"key": []}]


def test_more_requests_than_may_wait_are_turned_away(root: Path) -> None:
    settings = settings_of(root)
    app = create_app(settings)
    with TestClient(app) as client:
        app.state.worker.batcher._limit = 0
        refused = recommend(client, user_id=1)
        check_problem(refused, 503)
        assert refused.headers["retry-after"] == "1"


def test_the_openapi_document_states_the_limits_and_describes_errors_as_problems(client: TestClient) -> None:
    document = client.get("/openapi.json").json()
    schemas = document["components"]["schemas"]
    assert schemas["RecommendationRequest"]["properties"]["k"]["maximum"] == 500
    assert schemas["EventsRequest"]["properties"]["events"]["maxItems"] == 1000
    for path in document["paths"].values():
        for operation in path.values():
            for code, response in operation["responses"].items():
                assert int(code) < 400 or list(response["content"]) == ["application/problem+json"]


def test_a_worker_gets_all_settings_with_their_secrets() -> None:
    given = {"limits": {"api_keys": ["secret-of-this-test"]}, "store": {"secret_access_key": "other"}, "rules": "rules.yaml"}
    settings = ServingSettings.model_validate(given)
    again = ServingSettings.model_validate_json(as_json(settings))
    assert again == settings and again.limits.api_keys[0].get_secret_value() == "secret-of-this-test"
    with pytest.raises(SettingsError, match="workers"):
        load_settings(ServingSettings, None, ["workers=0"])
