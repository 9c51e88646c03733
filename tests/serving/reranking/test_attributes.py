"""Rules and requests select items by the team's attributes and ids."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from configs.serving import RuleFile
from infra.storage.local import LocalStore
from models.schema import DataSchema
from serving.api.app import create_app
from serving.catalogue import Catalogue
from serving.reranking import RankRequest, Rules
from tests.serving.own_data import draw_shop, named, sku
from tests.serving.versions import START, promote_version, publish, settings_of


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("shop")
    draw_shop(root / "v1", 1)
    promote_version(LocalStore(root / "store"), publish(LocalStore(root / "store"), root / "v1").version)
    return root


@pytest.fixture(scope="module")
def shop(root: Path) -> Catalogue:
    return Catalogue.load(root / "v1")


@pytest.fixture(scope="module")
def client(root: Path) -> Iterator[TestClient]:
    with TestClient(create_app(settings_of(root, batch={"cache_s": 0}))) as client:
        yield client


def ranked(shop: Catalogue, scores: Any = None, history: Any = (), **content: Any) -> list[int]:
    rules = Rules(RuleFile.model_validate(content))
    scores = np.arange(len(shop), dtype=np.float32) if scores is None else scores
    return [int(item) for item in rules.rank(scores, shop, RankRequest(len(shop), np.array(history, np.int64))).items]


def exclude(**where: Any) -> dict[str, Any]:
    return {"rules": [{"name": "r", "action": "exclude", "where": where}]}


def test_a_rule_selects_by_categories_by_numbers_and_by_the_teams_ids(shop: Catalogue) -> None:
    brand, price = shop.attributes["brand"], shop.attributes["price"]
    kept = ranked(shop, **exclude(attributes={"brand": ["Acme"]}))
    assert kept and {brand.of(item) for item in kept} == {"Birk", None}
    kept = ranked(shop, **exclude(attributes={"price": [110, 120]}))
    assert kept and not [item for item in kept if (found := price.of(item)) is not None and 110 <= float(found) <= 120]
    both = ranked(shop, **exclude(attributes={"brand": ["Acme", "Birk"], "price": [120, None]}))
    assert len(both) > len(kept) - 10 and any(price.of(item) is None for item in both)
    (gone,) = set(range(len(shop))) - set(ranked(shop, **exclude(items=[sku(105)])))
    assert shop.id_of(gone) == sku(105)
    pinned = ranked(shop, rules=[{"name": "p", "action": "pin", "items": [sku(110)]}])
    assert shop.id_of(pinned[0]) == sku(110)


def test_a_rule_for_users_of_a_brand_holds_for_them_alone(shop: Catalogue) -> None:
    brand = shop.attributes["brand"]
    acme = [item for item in range(len(shop)) if brand.of(item) == "Acme"]
    rule = {
        "name": "r",
        "action": "exclude",
        "where": {"attributes": {"brand": ["Birk"]}},
        "audience": {"attributes": {"brand": ["Acme"]}},
    }
    assert "Birk" not in {brand.of(item) for item in ranked(shop, history=acme[:3], rules=[rule])}
    assert "Birk" in {brand.of(item) for item in ranked(shop, rules=[rule])}


def test_what_a_rule_names_and_the_data_lacks_is_told(shop: Catalogue) -> None:
    where = {"attributes": {"colour": ["red"], "brand": ["Acme", "Nobody"], "price": [1]}, "items": ["SKU-none", 7]}
    (said,) = Rules(RuleFile.model_validate(exclude(**where))).unknown(shop)
    for part in (
        "item SKU-none",
        "item 7",
        "attribute colour (it has brand, price)",
        "brand Nobody",
        "attribute price, which holds numbers",
    ):
        assert part in said
    (said,) = Rules(RuleFile.model_validate({"diversity": {"by": "colour", "weight": 0.5}})).unknown(shop)
    assert "diversity.by names the attribute 'colour'" in said


def test_diversity_by_an_attribute_mixes_its_values(shop: Catalogue) -> None:
    brand = shop.attributes["brand"]
    scores = np.array([10.0 if brand.of(item) == "Acme" else 0.0 for item in range(len(shop))], np.float32)
    plain = ranked(shop, scores)[:4]
    mixed = ranked(shop, scores, diversity={"by": "brand", "weight": 0.9})[:4]
    assert {brand.of(item) for item in plain} == {"Acme"} and {brand.of(item) for item in mixed} > {"Acme"}
    price = shop.attributes["price"].groups(np.arange(len(shop)))
    assert price.shape[1] == 10 and set(price.sum(axis=1)) == {0, 1}, "tenths of the catalogue; an unknown price is in none"


def test_items_of_the_history_are_shown_again_where_the_dataset_keeps_repeats(shop: Catalogue) -> None:
    from dataclasses import replace

    films = replace(shop, schema=DataSchema(ids=shop.schema.ids))
    assert 3 in ranked(shop, history=[3]) and 3 not in ranked(films, history=[3])
    assert 3 not in ranked(shop, history=[3], seen="hide") and 3 in ranked(films, history=[3], seen="show")


def test_a_request_filters_by_attributes(client: TestClient) -> None:
    asked = {"user_id": named(1), "k": 100, "attributes": {"brand": ["Birk"], "price": [110, None]}}
    found = client.post("/v1/recommendations", json=asked).json()["items"]
    assert found and all(item["attributes"]["brand"] == "Birk" and item["attributes"]["price"] >= 110 for item in found)
    for attributes, status, said in (
        ({"colour": ["red"]}, 404, "There is no attribute 'colour'. Known attributes: brand, price."),
        ({"brand": ["Nobody"]}, 404, "No product has the brand 'Nobody'."),
        ({"price": [10]}, 422, "The attribute price holds numbers: give the least and the greatest"),
        ({"brand": []}, 422, "body.attributes.brand"),
    ):
        response = client.post("/v1/recommendations", json={"attributes": attributes})
        assert response.status_code == status and said in response.text


def test_a_new_user_may_name_attributes_that_they_like(client: TestClient) -> None:
    found = client.post("/v1/recommendations", json={"like_attributes": {"brand": ["Birk"]}, "k": 5}).json()
    assert (found["source"], found["detail"]) == ("cold", "attributes")
    assert {item["attributes"]["brand"] for item in found["items"]} == {"Birk"}
    brands = {item["attributes"]["brand"] for item in client.get("/v1/onboarding?count=4").json()["items"]}
    assert len(brands) > 1


def test_a_known_user_gets_bought_items_again(client: TestClient) -> None:
    told = [{"user_id": "returning", "item_id": sku(105), "time": START}]
    client.post("/v1/events", json={"events": told})
    found = client.post("/v1/recommendations", json={"user_id": "returning", "k": 100}).json()["items"]
    assert sku(105) in [item["item_id"] for item in found]
