"""`POST /v1/outcomes`: what it takes and refuses, and that an experiment's report reads it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from infra.storage.local import LocalStore
from serving.api.app import create_app
from serving.experiments import Experiments, all_outcomes, report_experiment, stored_exposures
from tests.serving.api.test_app import check_problem
from tests.serving.versions import draw, promote_version, publish, settings_of, wait_until_served

NOW = int(time.time())


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("outcomes")
    draw(root / "v1", 1)
    promote_version(LocalStore(root / "store"), publish(LocalStore(root / "store"), root / "v1").version)
    return root


@pytest.fixture(scope="module")
def client(root: Path) -> Iterator[TestClient]:
    with TestClient(create_app(settings_of(root)), raise_server_exceptions=False) as client:
        yield client


def post(client: TestClient, *outcomes: Any) -> Any:
    return client.post("/v1/outcomes", json={"outcomes": list(outcomes)})


BAD: list[tuple[str, dict[str, Any]]] = [
    ("body.outcomes.0.kind", {"kind": "share"}),
    ("body.outcomes.0.user_id", {"user_id": "seven"}),
    ("body.outcomes.0.item_id", {"item_id": "105"}),
    ("body.outcomes.0.value", {"value": "12"}),
    ("body.outcomes.0.value", {"value": 1e13}),
    ("milliseconds", {"time": NOW + 10_000}),
    ("body.outcomes.0.time", {"time": NOW * 1000}),
    ("body.outcomes.0.request_id", {"request_id": "../etc"}),
    ("could not be recognised", {"time": None, "outcome_id": None}),
    ("did you mean user_id", {"user": 1}),
]


@pytest.mark.parametrize(("said", "change"), BAD)
def test_an_outcome_with_a_fault_is_refused_and_its_place_is_named(client: TestClient, said: str, change: dict[str, Any]) -> None:
    check_problem(post(client, {"user_id": 1, "kind": "buy", "item_id": 105, "time": NOW} | change), 422, said)


def test_a_batch_has_the_limits_of_events(client: TestClient) -> None:
    check_problem(post(client, *[{"user_id": 1, "kind": "click", "time": NOW}] * 1001), 422, "1,000")
    check_problem(client.post("/v1/outcomes", json={"outcomes": []}), 422, "body.outcomes")
    check_problem(client.post("/v1/outcomes", content="x", headers={"content-type": "text/plain"}), 415)


def test_late_outcomes_are_accepted_within_the_bound_and_the_rest_of_a_batch_is_kept(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, outcomes={"folder": str(tmp_path / "outcomes"), "late_s": 1000})
    with TestClient(create_app(settings)) as client:  # without a model, too
        late = [{"user_id": 1, "kind": "click", "time": int(time.time()) - age} for age in (900, 2000, 0)]
        results = post(client, *late).json()["results"]
    assert [each["result"] for each in results] == ["accepted", "too_old", "accepted"]
    assert len(all_outcomes(LocalStore(tmp_path / "store"))) == 2


def test_an_experiment_reads_outcomes_of_the_api_and_of_a_file_by_the_same_rules(root: Path, tmp_path: Path) -> None:
    file = tmp_path / "experiments.yaml"
    file.write_text(
        "experiments: [{name: two, arms: [{name: a}, {name: b}], analysis: {horizon_s: 86400, min_users: 2, kinds: [buy]}}]"
    )
    exposures = {"folder": str(tmp_path / "exposures"), "flush_s": 0.01}
    options: dict[str, Any] = {
        "experiments": str(file),
        "exposures": exposures,
        "outcomes": {"folder": str(tmp_path / "outcomes")},
    }
    experiment = Experiments.load(file).file.experiments[0]
    shown: dict[int, Any] = {}
    with TestClient(create_app(settings_of(root, **options))) as client:
        wait_until_served(client)
        for user in range(20):
            answer = client.post("/v1/recommendations", json={"user_id": user, "k": 3})
            shown[user] = (answer.json()["items"][0]["item_id"], answer.headers["x-request-id"])
        told = [
            {"user_id": user, "kind": "buy" if user < 5 else "click", "item_id": item, "request_id": request}
            for user, (item, request) in shown.items()
            if user < 8
        ]
        for _ in range(2):  # a retry
            assert post(client, *told).status_code == 200
        assert 'recsys_outcomes_total{kind="click"} 6.0' in client.get("/metrics").text
    store = LocalStore(root / "store")
    exposed = list(stored_exposures(store))
    path = tmp_path / "outcomes.csv"
    known = {each.user: each.time for each in exposed}
    item, request = shown[9]
    path.write_text(f"user_id,timestamp,item_id,request_id\n9,{known[9]},{item},{request}\n")
    until = max(known.values()) + 2 * 86_400
    report = report_experiment(experiment, exposed, all_outcomes(store, path), as_of=until)
    assert sum(arm.outcomes for arm in report.arms) == 5 + 1  # purchases of the API, and the row of the file
    assert "(buy)" in report.outcome
