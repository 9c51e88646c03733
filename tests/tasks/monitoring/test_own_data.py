"""Drift checks follow the data: what a team's events do not have is not checked, and what it has chosen is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from configs.settings import DriftSettings, MonitoringSettings, NounSettings
from models.columns import Columns
from tasks.ingest import build_features
from tasks.monitoring import DriftResult, check_rows, reference_of
from tasks.monitoring.columns import CATEGORIES
from tasks.monitoring.drift import Beside, Reference, detect_drift
from tasks.monitoring.evidently_page import draw_columns
from tasks.monitoring.page import render_drift
from tasks.monitoring.traits import REPEATED, Descriptions, traits_of
from tests.own_events import Shape, music, news, shop

SETTINGS = DriftSettings(alpha=0.03, resamples=800)
WORDS = NounSettings(item="product", items="products", user="customer", users="customers", genre="category", genres="categories")


class Data:
    """The tables that a dataset of the shape has: ids are numbers, and there is no rating."""

    def __init__(self, shape: Shape) -> None:
        self.users, self.items = (
            {text: code for code, text in enumerate(sorted(shape.events[name].unique()))} for name in (shape.user, shape.item)
        )
        frame = pd.DataFrame({
            Columns.USER: shape.events[shape.user].map(self.users),
            Columns.ITEM: shape.events[shape.item].map(self.items),
            Columns.RATING: 1.0,
            Columns.TIME: shape.seconds,
        })  # fmt: skip
        frame = frame.sort_values([Columns.USER, Columns.TIME], kind="stable", ignore_index=True)
        self.features = build_features(frame).drop(columns=Columns.RATING)
        known = {"category": "genres", "section": "genres", "name": "title", "headline": "title"}
        table = pd.DataFrame({Columns.ITEM: list(self.items.values()), "title": "", "genres": ""})
        if shape.items is not None:
            table = shape.items.rename(columns=known)
            table.insert(0, Columns.ITEM, table.pop(shape.item).map(self.items))
        self.item_table = table.dropna(subset=Columns.ITEM).astype({Columns.ITEM: np.int64})
        self.user_table = None
        if shape.users is not None:
            users = shape.users.copy()
            users.insert(0, Columns.USER, users.pop(shape.user).map(self.users))
            self.user_table = users

    def halves(self) -> tuple[pd.DataFrame, pd.DataFrame]:
        users = np.random.default_rng(3).permutation(self.features[Columns.USER].unique())
        first = self.features[Columns.USER].isin(users[: len(users) // 2])
        return self.features[first], self.features[~first]

    def reference(self, repeats: bool = False) -> Reference:
        return reference_of(self.halves()[0], self.item_table, SETTINGS, 0, users=self.user_table, repeats=repeats)

    def drift(self, current: pd.DataFrame, reference: Reference, items: pd.DataFrame | None = None) -> DriftResult:
        beside = Beside(arrived=current, anchor=reference, users=self.user_table, nouns=WORDS)
        return detect_drift(reference, current, self.item_table if items is None else items, SETTINGS, beside=beside).result


@pytest.fixture(scope="module")
def shop_data() -> Data:
    return Data(shop())


@pytest.fixture(scope="module")
def music_data() -> Data:
    return Data(music())


def names(result: DriftResult) -> set[str]:
    return {check.name for check in result.checks}


def test_without_ratings_and_genres_their_checks_are_absent(music_data: Data) -> None:
    result = music_data.drift(music_data.halves()[1], music_data.reference(repeats=True))
    assert result.verdict == "stable"
    assert not [name for name in names(result) if name.startswith(("rating", "genre", "category"))]
    assert {"country of customers", "birth_year of customers", "same product as before", "hour"} <= names(result)
    assert {row["check"] for row in check_rows(result)} == names(result)


def test_the_correction_counts_the_checks_that_there_are(shop_data: Data, music_data: Data) -> None:
    listens = traits_of(music_data.reference(True).sample, Descriptions(music_data.item_table, music_data.user_table))
    sells = traits_of(shop_data.reference(True).sample, Descriptions(shop_data.item_table))
    assert listens.columns == (
        *("log_gap", "popularity", "log_session", "user: birth_year"),
        *("hour", "weekday", REPEATED, "user: country"),
    )
    assert listens.most_checks == 3 * len(listens.columns) + 8
    found = shop_data.drift(shop_data.halves()[1], shop_data.reference(True))
    live = 1  # `detect_drift` gets this check from its caller
    assert len(names(found)) == sells.most_checks - live


def test_chosen_attributes_of_items_are_checked_in_the_words_of_the_team(shop_data: Data) -> None:
    reference, current = shop_data.reference(True), shop_data.halves()[1]
    assert shop_data.drift(current, reference).verdict == "stable"
    table = shop_data.item_table
    cheap = table.loc[(table["price"] < 250) & (table["brand"] != "Casa Lina"), Columns.ITEM]
    moved = current[current[Columns.ITEM].isin(cheap)]
    drifted = set(shop_data.drift(moved, reference).drifted)
    assert {
        "brand of products",
        "price of products",
        "brand of products, as arrived",
        "price of products, over the long term",
    } <= drifted


def test_chosen_attributes_of_users_are_checked(music_data: Data) -> None:
    table = music_data.user_table
    assert table is not None
    current = music_data.halves()[1]
    same = current[current[Columns.USER].isin(table.loc[table["country"] == "JP", Columns.USER])]
    assert "country of customers" in music_data.drift(same, music_data.reference(True)).drifted


@pytest.mark.full
def test_an_attribute_that_is_described_later_is_no_drift(shop_data: Data) -> None:
    halves, items = shop_data.halves(), shop_data.item_table
    nameless = items.assign(brand="", price=np.nan, genres="")
    for table in (nameless, items[[Columns.ITEM, "title"]]):
        reference = reference_of(halves[0], table, SETTINGS, 0, repeats=True)
        found = shop_data.drift(halves[1], reference)
        assert found.verdict == "stable" and {"brand of products", "price of products", "category"} <= names(found)


def test_an_attribute_that_the_team_no_longer_keeps_is_not_checked(shop_data: Data) -> None:
    found = shop_data.drift(
        shop_data.halves()[1], shop_data.reference(True), shop_data.item_table.drop(columns=["brand", "price"])
    )
    assert not [name for name in names(found) if "brand" in name or "price" in name]


def test_an_attribute_with_thousands_of_values_is_compared_by_the_frequent_ones(shop_data: Data) -> None:
    reference, current = shop_data.reference(True), shop_data.halves()[1]
    rare = shop_data.item_table.assign(brand=[f"brand {i}" for i in range(len(shop_data.item_table))])
    assert rare["brand"].nunique() > CATEGORIES
    before = reference_of(shop_data.halves()[0], rare, SETTINGS, 0, repeats=True)
    assert shop_data.drift(current, before, rare).verdict == "stable"
    assert shop_data.drift(current, reference).verdict == "stable"


def test_events_that_are_sent_twice_are_drift_where_repeats_are_kept(music_data: Data) -> None:
    reference, current = music_data.reference(repeats=True), music_data.halves()[1]
    twice = pd.concat([current, current.assign(timestamp=current["timestamp"] + 1, gap_s=1.0)]).sort_values(
        [Columns.USER, Columns.TIME]
    )
    assert "same product as before" in music_data.drift(twice, reference).drifted


@pytest.mark.parametrize("users", [60, 125])
def test_users_who_return_to_their_own_items_are_not_concentrated_on_few(users: int) -> None:
    rng = np.random.default_rng(0)
    who = np.repeat(np.arange(500), 30)
    own = rng.integers(0, 400, 500)[who] + rng.integers(0, 3, len(who))  # each user has three items of 403
    frame = pd.DataFrame({Columns.USER: who, Columns.ITEM: own, Columns.RATING: 1.0})
    frame[Columns.TIME] = 1_700_000_000 + rng.integers(0, 10**7, len(who))
    features = build_features(frame.sort_values([Columns.USER, Columns.TIME], ignore_index=True)).drop(columns=Columns.RATING)
    items = pd.DataFrame({Columns.ITEM: np.arange(403)})
    reference = reference_of(features[features[Columns.USER] < 250], items, SETTINGS, 0, repeats=True)
    current = features[(features[Columns.USER] >= 250) & (features[Columns.USER] < 250 + users)]
    result = detect_drift(reference, current, items, SETTINGS).result
    found = next(check for check in result.checks if check.name == "concentration on films")
    assert found.verdict == "stable" and found.effect is not None and found.effect < 1.5
    few = current.assign(item_id=current[Columns.ITEM] % 12)
    assert "concentration on films" in detect_drift(reference, few, items, SETTINGS).result.drifted


def test_a_reference_keeps_what_described_its_events(shop_data: Data, tmp_path: Path) -> None:
    shop_data.reference(True).save(tmp_path)
    sample = Reference.load(tmp_path).sample
    assert Columns.RATING not in sample and {"item: brand", "item: price", "genres", REPEATED} <= set(sample.columns)
    assert sample["item: price"].dtype == np.float64 and set(sample["item: brand"]) == {"Nordholm", "Casa Lina", "Umbra & Sons"}


def test_the_page_and_evidently_show_the_checks_that_there_are() -> None:
    data = Data(news())
    data.item_table = data.item_table.rename(columns={"author": "<b>author"})
    reference, current = data.reference(), data.halves()[1]
    measure = detect_drift(reference, current, data.item_table, SETTINGS, beside=Beside(nouns=WORDS))
    page = render_drift(measure.result, None, WORDS).decode()
    assert "words of products" in page and "&lt;b&gt;author of products" in page and "rating" not in page and "film" not in page
    assert measure.compared is not None
    drawn = draw_columns(measure.compared, measure.result, MonitoringSettings(), "run").decode()
    assert "item: words" in drawn and "<b>author" not in drawn and '"rating"' not in drawn
