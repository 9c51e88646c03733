"""Settings that say how a team's own events are written: what contradicts itself is refused in one sentence."""

from __future__ import annotations

import pytest
import yaml

from configs.errors import SettingsError
from configs.loading import load_settings
from configs.settings import DataSettings, ItemColumnSettings, RetrainSettings, UserColumnSettings
from models.columns import Columns

SHOP = """
data:
  columns: {user: customer_id, item: sku, timestamp: occurred_at, weight: kind}
  columns_items: {title: name, genres: category, attributes: [brand, price]}
  id_type: {user: text}
  timestamp_format: s
  timezone: Europe/Berlin
  feedback: implicit
  repeats: keep
  weights: {view: 0.1, cart: 0.5, purchase: 1}
  nouns: {item: product, items: products}
"""


def test_a_shop_says_in_a_few_lines_how_its_events_are_written(tmp_path) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "shop.yaml"
    path.write_text(SHOP)
    data = load_settings(RetrainSettings, str(path)).data
    assert data.columns.named == {"user": "customer_id", "item": "sku", "timestamp": "occurred_at", "weight": "kind"}
    assert data.columns_items.attributes == ("brand", "price") and data.columns_items.named == {
        "title": "name",
        "genres": "category",
    }
    assert data.weights == {"view": 0.1, "cart": 0.5, "purchase": 1.0}
    assert (data.timestamp_format, data.timezone, data.id_type.user, data.id_type.item) == ("s", "Europe/Berlin", "text", "auto")


def test_the_defaults_are_those_of_movielens() -> None:
    data = DataSettings()
    assert not data.columns.named and (data.feedback, data.repeats, data.timestamp_format) == ("explicit", "newest", "auto")
    assert (data.nouns.item, data.nouns.events) == ("film", "ratings")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("columns={user: id, item: id}", "user and item both name the column id: give each of them a column of its own"),
        ("columns_items={title: name, attributes: [name]}", "title and attributes both name the column name"),
        ("columns_items={attributes: [year]}", "attributes names year, which is read anyway or has a meaning of its own"),
        ("columns_users={attributes: [external_id]}", "attributes names external_id, which is read anyway"),
        (
            "columns_items={attributes: [price, price_at]}",
            "attributes names price_at beside price: rename one of the two columns",
        ),
        ("columns_items={attributes: [price, price_at_from]}", "attributes names price_at_from beside price"),
        (
            "columns_items={item: sku, attributes: [movie_id]}",
            "attributes names movie_id, under which a stored table may have a column of the product: rename the column, for example",
        ),
        ("columns_users={attributes: [movie_events_before]}", "attributes names movie_events_before, under which a stored table"),
        (
            "columns_items={attributes: [year_from, price]}",
            "attributes names year_from, under which the file of each year is stored: rename the column, for example to own_year_from",
        ),
        ("columns_items={attributes: [title_at]}", "attributes names title_at, under which the time of each title is stored"),
        ("columns_items={attributes: [title_at_at]}", "attributes names title_at_at, under which"),
        ("columns_items={attributes: [rated_at]}", "attributes names rated_at, under which the time of each rated is stored"),
        ("columns_users={attributes: [user_id_from]}", "attributes names user_id_from, under which the file of each user_id"),
        (
            "{columns: {item: sku}, columns_items: {attributes: [sku]}}",
            "columns_items.attributes names the column sku, which has the id of each item: remove it, or set columns_items.item",
        ),
        ("columns_users={zip_code: userId}", "columns_users.zip_code names the column userId, which has the id of each user"),
        ("columns_users={attributes: [country, country]}", "attributes names twice the column country"),
        (
            "{feedback: implicit, columns: {rating: stars}}",
            "feedback is implicit, which takes no rating, but columns.rating names stars",
        ),
        ("weights={view: 1}", "weights names kinds of events, but columns.weight names no column"),
        ("{weights: {view: 0}, columns: {weight: kind}}", "every weight is 0, so no event would count"),
        ("weights={view: -1}", "Input should be greater than or equal to 0"),
        ("weights={view: .inf}", "Input should be a finite number"),
        ("timestamp_format=seconds", "give one of auto, s, ms, us, ns, iso, or a pattern such as %d/%m/%Y %H:%M"),
        ("timestamp_format='%d/%m'", "does not say the year, the month and the day"),
        ("timestamp_format='%Q'", "this is not a pattern of strptime"),
        ("timestamp_format='%d/%m/%Y'", "timestamp_format (%d/%m/%Y) has no zone: set timezone, for example to UTC, or add %z"),
        (
            "timestamp_format='%Y-%m-%d %Z'",
            "%Z is read, but not heeded: write the zone itself in its place, such as UTC, and set",
        ),
        ("timestamp_format='%d/%m/%Y %%z'", "timestamp_format (%d/%m/%Y %%z) has no zone"),
        ("timezone=Middle/Earth", "there is no such time zone: give a name such as UTC, Europe/Berlin"),
        ("timezone=../../etc/passwd", "there is no such time zone"),
        ("nouns.item=''", "at least 1 character"),
    ],
)
def test_settings_that_contradict_each_other_are_refused_in_one_sentence(given: str, said: str) -> None:
    values = yaml.safe_load(given) if given.startswith("{") else None
    options = (
        [f"data.{key}={yaml.safe_dump(value, default_flow_style=True)}" for key, value in values.items()]
        if values
        else [f"data.{given}"]
    )
    with pytest.raises(SettingsError) as caught:
        load_settings(RetrainSettings, None, options)
    assert said in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("pattern", ["%d/%m/%Y %H:%M", "%Y%m%d", "%d %b %Y %I:%M:%S %p", "%Y-%j", "%Y-%m-%d %%Z"])
def test_a_pattern_may_say_the_day_in_any_way(pattern: str) -> None:
    assert DataSettings(timestamp_format=pattern, timezone="UTC").timestamp_format == pattern
    assert DataSettings(timestamp_format=f"{pattern} %z").timezone is None


def test_every_name_that_a_stored_table_has_is_no_attribute() -> None:
    kinds = (
        (ItemColumnSettings, (Columns.ITEM, *Columns.ITEM_DESCRIPTION)),
        (UserColumnSettings, (Columns.USER, *Columns.USER_DESCRIPTION)),
    )
    for settings, own in kinds:
        stored = [*own, Columns.HAS_EVENTS]
        states = [of(name) for name in stored for of in (Columns.time_of, Columns.origin_of)]
        for name in [*stored, *states, *Columns.FORMER, Columns.DESCRIBED_AT, Columns.DESCRIBED_IN, Columns.EXTERNAL_ID]:
            assert settings.no_attribute(name) is not None, name
    assert ItemColumnSettings(attributes=("age_from", "released_at", "shipped_from", "movie")).attributes
