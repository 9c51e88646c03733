from __future__ import annotations

import pytest

from configs.errors import SettingsError
from tasks.tables import DatasetProperties

SHOP = DatasetProperties(user_ids="text", item_ids="text", feedback="implicit", repeats="keep", weights=True)


def test_a_manifest_without_properties_is_that_of_movielens() -> None:
    plain = DatasetProperties.from_manifest({"format": 1})
    assert plain == DatasetProperties() and plain.to_manifest() == {}
    assert plain.described() == "integer ids, explicit feedback, newest event of each user and item"


def test_properties_survive_the_manifest() -> None:
    assert DatasetProperties.from_manifest(SHOP.to_manifest()) == SHOP
    mixed = DatasetProperties(item_ids="text")
    assert mixed.to_manifest() == {"ids": {"user_id": "integer", "item_id": "text"}}
    assert DatasetProperties.from_manifest(mixed.to_manifest()) == mixed


@pytest.mark.parametrize(
    ("stored", "given", "message"),
    [
        (
            SHOP,
            {"repeats": "newest"},
            r"data\.repeats is newest, but the dataset shop was made with keep: set it to keep, or store",
        ),
        (SHOP, {"feedback": "explicit"}, r"data\.feedback is explicit, but the dataset shop was made with implicit"),
        (SHOP, {"weights": False}, r"data\.columns\.weight is empty, but the dataset shop has weights: name their column"),
        (
            SHOP,
            {"user_ids": "integer"},
            r"The column user_id holds integer ids, but those of the dataset shop are text: deliver text",
        ),
    ],
)
def test_a_contradiction_names_the_setting_and_the_stored_value(stored: DatasetProperties, given: dict, message: str) -> None:
    stored.check(stored, "shop")
    with pytest.raises(SettingsError, match=message):
        stored.check(DatasetProperties(**{**stored.__dict__, **given}), "shop")
