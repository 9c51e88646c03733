"""Requests are grouped by attributes of the team's choice, in the team's words."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from configs.errors import SettingsError
from configs.settings import EvaluationSettings, NounSettings, ValueSettings
from models.evaluation import Split, slices
from tasks.evaluation import request_slices, value_rows
from tasks.evaluation import slices as own_slices
from tasks.evaluation.business_value import value_of
from tasks.evaluation.evidently_page import Named
from tasks.training import read_split
from tests.tasks.evaluation.test_business_value import ranking
from tests.tasks.world import World

WORDS = NounSettings(item="product", items="products", user="customer", users="customers", action="purchase", actions="purchases")


@pytest.fixture
def parts(world: World) -> Split:
    return read_split(world.store, world.newer, world.settings.evaluation)


@pytest.fixture
def tables(parts: Split, monkeypatch: pytest.MonkeyPatch) -> dict[str, pd.DataFrame]:
    """Tables with attributes, as a team's dataset has them."""
    items, users = np.unique(parts.test.targets), parts.test.user_ids
    brands = np.array(["Nordholm", "Casa Lina", "", "Umbra", "Fjord", "Oak", "Elm", "Ash"])
    found = {
        "items": pd.DataFrame({"item_id": items, "title": "x", "genres": np.array(["A|B", "B", ""])[items % 3]}).assign(
            brand=pd.array(brands[items % 8], dtype="string"), price=pd.array(items * 1.5, dtype="Float64")
        ),
        "users": pd.DataFrame({"user_id": users, "country": np.array(["NO", "DE"])[users % 2]}),
    }
    monkeypatch.setattr(own_slices, "read_table", lambda store, dataset, name: found[name])
    return found


def test_without_attributes_the_slices_are_the_usual_ones(world: World, parts: Split) -> None:
    found, usual = request_slices(world.store, world.newer, parts, ()), slices(parts.train, parts.test)
    assert list(found) == list(usual) and all(np.array_equal(found[name], usual[name]) for name in usual)


def test_the_usual_slices_have_the_words_of_the_team(world: World, parts: Split) -> None:
    assert list(request_slices(world.store, world.newer, parts, (), WORDS)) == [
        "new customers", "light customers", "heavy customers", "head products", "tail products", "recent customers",
    ]  # fmt: skip


def test_values_and_quarters_of_attributes_are_slices(world: World, parts: Split, tables: dict[str, pd.DataFrame]) -> None:
    found = request_slices(world.store, world.newer, parts, ("country", "brand", "price", "genres"), WORDS)
    countries = pd.Series(parts.test.user_ids % 2).map({0: "NO", 1: "DE"})
    assert np.array_equal(found["country NO"], countries == "NO") and np.array_equal(found["country DE"], countries == "DE")
    brands = [name for name in found if name.startswith("brand ")]
    assert len(brands) == 5 and "brand " not in brands, "the five most frequent ones, without those that have none"
    low, high = (name for name in found if name.startswith("price "))
    prices = parts.test.targets * 1.5
    assert low == f"price up to {np.quantile(prices, 0.25):g}" and np.array_equal(found[low], prices <= np.quantile(prices, 0.25))
    assert high.startswith("price from ") and found[high].any()
    assert np.array_equal(found["genres A"], parts.test.targets % 3 == 0)
    assert np.array_equal(found["genres B"], parts.test.targets % 3 != 2)


def test_an_unknown_attribute_is_refused_with_those_that_there_are(
    world: World, parts: Split, tables: dict[str, pd.DataFrame]
) -> None:
    with pytest.raises(
        SettingsError,
        match=r"evaluation\.slices names colour, which is not an attribute of products or customers .*brand, price, country",
    ):
        request_slices(world.store, world.newer, parts, ("colour",), WORDS)


def test_slices_change_neither_the_protocol_nor_its_train_part() -> None:
    assert EvaluationSettings(slices=("brand",)).protocol_id == EvaluationSettings().protocol_id == "loo-exact"


def test_the_value_speaks_of_what_the_team_sells(world: World, parts: Split) -> None:
    value = value_of({"ours": ranking([1, 2, 30])}, "ours", ValueSettings(), WORDS, resamples=200, seed=0)
    assert "purchases / 1,000" in value_rows(value, "ours")[0]
    said = " ".join(value.assumptions)
    assert (
        "10 products are shown" in said
        and "of the clicks lead to purchases" in said
        and "film" not in said
        and "watch " not in said
    )


def test_pages_name_items_and_users_by_the_ids_of_the_team() -> None:
    items = pd.DataFrame({"item_id": [7, 2**62], "title": ["Lamp", ""], "year": pd.array([None, None], dtype="Int64")})
    texts = pd.Series(["SKU-7", "SKU-8"], index=[7, 2**62])
    named = Named(items, texts, pd.Series(["cust/1"], index=[2**61]))
    assert named.labels(np.array([2**62, 7, 7])).tolist() == ["[SKU-8]", "Lamp [SKU-7]", "Lamp [SKU-7]"]
    assert named.users(np.array([2**61])).tolist() == ["cust/1"] and replace(named, user_ids=None).users(
        np.array([5])
    ).tolist() == [5]
    assert replace(named, item_ids=None).labels(np.array([7])).tolist() == ["Lamp [7]"]


def test_new_items_are_ranked_and_form_a_slice_if_a_setting_asks_for_it(world: World, parts: Split) -> None:
    asked = world.settings.evaluation.model_copy(update={"new_items": True})
    ranked = read_split(world.store, world.newer, asked)
    assert set(parts.catalogue) <= set(ranked.catalogue) and ranked.id == f"{parts.id};new_items=True"
    new = int(np.setdiff1d(ranked.catalogue, ranked.train.item_ids)[0]) if len(ranked.catalogue) > len(parts.catalogue) else -1
    hidden = parts.test.targets[0] if new < 0 else new
    without = [hidden not in items for items in np.split(ranked.train.item_ids, ranked.train.offsets[1:-1])]
    train = ranked.train.of_rows(np.flatnonzero(without))
    shown = replace(ranked, train=train, test=replace(ranked.test, targets=np.full(len(ranked.test), hidden)))
    found = request_slices(world.store, world.newer, shown, (), WORDS)
    assert list(found)[-1] == "new products" and found["new products"].all()
    assert "new products" not in request_slices(world.store, world.newer, replace(shown, id=parts.id), (), WORDS)
