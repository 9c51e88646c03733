"""The API speaks the team's ids: text in requests, answers, the log of exposures and the description."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from infra.storage.local import LocalStore
from serving.api.app import create_app
from serving.experiments import Experiments, Exposure
from tests.serving.own_data import draw_shop, named, sku
from tests.serving.versions import START, draw, promote_version, publish, settings_of


class Sink:
    """Keeps the exposures."""

    def __init__(self) -> None:
        self.dropped = 0
        self.exposures: list[Exposure] = []

    def write(self, exposure: Exposure) -> None:
        self.exposures.append(exposure)

    def close(self) -> None:
        pass


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("shop")
    draw_shop(root / "v1", 1)
    promote_version(LocalStore(root / "store"), publish(LocalStore(root / "store"), root / "v1").version)
    return root


SINK = Sink()


@pytest.fixture(scope="module")
def client(root: Path) -> Iterator[TestClient]:
    settings = settings_of(root, batch={"cache_s": 0})
    with TestClient(create_app(settings, SINK), raise_server_exceptions=False) as client:
        yield client


def recommend(client: TestClient, **body: Any) -> Any:
    return client.post("/v1/recommendations", json=body)


def test_events_and_answers_name_users_and_items_by_the_teams_text(client: TestClient) -> None:
    told = [{"user_id": named(1), "item_id": sku(item), "time": START + 60 * item} for item in (105, 110, 120)]
    results = client.post("/v1/events", json={"events": told}).json()["results"]
    assert [(each["outcome"], each["known"]) for each in results] == [("applied", True)] * 3
    found = recommend(client, user_id=named(1), k=4, explain=True).json()
    assert (found["user_id"], found["events"], found["source"]) == (named(1), 3, "state")
    assert len(found["items"]) == 4 and all(item["item_id"].startswith("SKU/") for item in found["items"])
    assert all(item["because"]["item_id"] in {sku(105), sku(110), sku(120)} for item in found["items"])
    assert found["items"][0]["attributes"].keys() == {"brand", "price"}
    kept = client.get("/v1/users/müller%401/events").json()
    assert kept["user_id"] == named(1) and [event["item_id"] for event in kept["events"]] == [
        sku(item) for item in (105, 110, 120)
    ]


def test_a_history_and_exclusions_name_items_by_text(client: TestClient) -> None:
    history = [{"item_id": sku(105), "time": START}]
    first = recommend(client, history=history, k=2).json()["items"]
    again = recommend(client, history=history, k=2, exclude=[first[0]["item_id"], "nothing of the kind"]).json()["items"]
    assert again[0]["item_id"] == first[1]["item_id"]


def test_an_unknown_user_or_item_is_like_any_other_unknown_one(client: TestClient) -> None:
    assert recommend(client, user_id="nobody has this id").json()["source"] == "cold"
    told = client.post("/v1/events", json={"events": [{"user_id": "new", "item_id": "not sold yet", "time": START}]}).json()
    assert told["results"][0] == {"outcome": "applied", "known": False, "version": told["results"][0]["version"]}
    kept = client.get("/v1/users/new/events").json()["events"]
    assert kept == [{"item_id": None, "title": "", "time": START}]  # only its number is stored


def test_items_are_found_by_id_where_there_are_no_titles(client: TestClient) -> None:
    found = client.get("/v1/items", params={"query": "sku/0105"}).json()["items"]
    assert [item["item_id"] for item in found] == [sku(105)]
    similar = client.get("/v1/items/SKU%2F0105/similar", params={"k": 3}).json()
    assert similar["item"]["item_id"] == sku(105) and len(similar["items"]) == 3
    missing = client.get("/v1/items/SKU-9/similar")
    assert missing.status_code == 404 and "does not know the product SKU-9" in missing.json()["detail"]
    assert len(client.get("/v1/onboarding", params={"count": 5}).json()["items"]) == 5


@pytest.mark.parametrize(
    ("where", "body"),
    [
        ("body.user_id", {"user_id": 42}),
        ("body.user_id", {"user_id": ""}),
        ("body.user_id", {"user_id": "x" * 501}),
        ("body.exclude.1", {"exclude": [sku(105), 7]}),
        ("body.history.1.item_id", {"history": [{"item_id": sku(105)}, {"item_id": 105}]}),
    ],
)
def test_an_id_of_the_wrong_type_or_length_is_refused_by_its_place(client: TestClient, where: str, body: dict[str, Any]) -> None:
    response = recommend(client, **body)
    assert response.status_code == 422 and response.json()["errors"][0]["where"] == where
    assert "text of 1 to 500 characters" in response.json()["detail"]


def test_a_wrong_id_in_a_list_of_events_stores_none_of_them(client: TestClient) -> None:
    events = [{"user_id": "b", "item_id": sku(105), "time": START}, {"user_id": 3, "item_id": sku(105), "time": START}]
    response = client.post("/v1/events", json={"events": events})
    assert response.status_code == 422 and response.json()["errors"][0]["where"] == "body.events.1.user_id"
    assert client.get("/v1/users/b/events").json()["events"] == []


def test_text_beside_integer_ids_is_refused_and_explained(tmp_path: Path) -> None:
    draw(tmp_path / "v1", 1)
    promote_version(LocalStore(tmp_path / "store"), publish(LocalStore(tmp_path / "store"), tmp_path / "v1").version)
    with TestClient(create_app(settings_of(tmp_path))) as client:
        for response, where in (
            (recommend(client, user_id="42"), "body.user_id"),
            (client.get("/v1/users/x42/events"), "path.user_id"),
            (client.get(f"/v1/users/{2**63}/events"), "path.user_id"),
            (client.get("/v1/items/-1/similar"), "path.item_id"),
        ):
            assert response.status_code == 422 and response.json()["errors"] == [
                {"where": where, "what": "must be a whole number from 0 to 9,223,372,036,854,775,807"}
            ]
        assert client.get("/v1/users/42/events").json()["user_id"] == 42


def test_exposures_name_users_and_items_as_outcomes_will(client: TestClient) -> None:
    SINK.exposures.clear()
    found = recommend(client, user_id=named(4), k=3).json()
    assert [(each.user, each.items) for each in SINK.exposures] == [(named(4), [item["item_id"] for item in found["items"]])]


def test_the_arm_of_a_user_follows_from_the_teams_id(root: Path, tmp_path: Path) -> None:
    path = tmp_path / "experiments.yaml"
    path.write_text("experiments: [{name: one, arms: [{name: a}, {name: b}]}]")
    with TestClient(create_app(settings_of(root, experiments=str(path), exposures={"folder": str(tmp_path / "log")}))) as client:
        for user in range(8):
            said = Experiments.load(path).assign(named(user), int(time.time()))
            assert recommend(client, user_id=named(user), preview=True).json()["arm"] == said.arm


def test_the_description_of_the_api_has_the_types_and_examples_of_the_data(client: TestClient) -> None:
    found = client.get("/openapi.json").json()
    schemas = found["components"]["schemas"]
    assert schemas["EventIn"]["properties"]["user_id"]["type"] == "string"
    assert schemas["Item"]["properties"]["item_id"]["maxLength"] == 500
    paths = found["paths"]
    asked = paths["/v1/events"]["post"]["requestBody"]["content"]["application/json"]["examples"]["One event"]["value"]
    assert asked["events"][0]["user_id"] == "user-42" and asked["events"][0]["item_id"].startswith("SKU/")
    assert paths["/v1/users/{user_id}/events"]["get"]["parameters"][0]["schema"]["type"] == "string"
    assert "x-id" not in str(found)


def test_a_version_with_other_ids_is_not_served_beside_the_champion(root: Path, tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "store")
    draw_shop(tmp_path / "shop", 1)
    draw(tmp_path / "films", 2)
    shop, films = publish(store, tmp_path / "shop").version, publish(store, tmp_path / "films").version
    promote_version(store, shop)
    with TestClient(create_app(settings_of(tmp_path, versions=[films]))) as client:
        refused = client.get("/v1/models").json()["refused"]
        assert [each["version"] for each in refused] == [films]
        assert f"has integer ids, but the champion {shop} has text ids" in refused[0]["reason"]


def test_a_champion_with_other_ids_takes_the_place_of_the_former_alone(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "store")
    draw_shop(tmp_path / "shop", 1)
    draw(tmp_path / "films", 2)
    shop, films = publish(store, tmp_path / "shop").version, publish(store, tmp_path / "films").version
    promote_version(store, films)
    app = create_app(settings_of(tmp_path, poll_s=3600))
    with TestClient(app) as client:
        assert recommend(client, user_id=1).status_code == 200
        promote_version(store, shop)
        assert app.state.worker.follower.look()
        assert [each["version"] for each in client.get("/v1/models").json()["served"]] == [shop]
        assert recommend(client, user_id=1).status_code == 422 and recommend(client, user_id="a").status_code == 200
