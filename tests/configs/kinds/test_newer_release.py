"""What a version records is read by the release that wrote it and by later ones. An earlier one says what it does not know."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from configs.errors import NewerReleaseError
from configs.loading import read_recorded
from configs.settings import EvaluationSettings
from models.kinds import kind_in


def test_recorded_settings_are_read_under_former_names() -> None:
    assert read_recorded(EvaluationSettings, {"request_time": "last"}, "It").query_time == "last"


def test_a_setting_of_a_newer_release_is_named_with_the_way_back() -> None:
    with pytest.raises(NewerReleaseError, match=r"^The version v1 comes from a newer release: it records later, which") as told:
        read_recorded(EvaluationSettings, {"later": 1}, "The version v1")
    assert "recsys model rollback" in str(told.value)


def test_a_wrong_setting_stays_a_defect() -> None:
    with pytest.raises(ValueError, match="k_core"):
        read_recorded(EvaluationSettings, {"k_core": -3}, "It")


@pytest.mark.parametrize("kind", ["ss4rec", "ncf", "popularity", "markov"])
def test_a_model_with_settings_of_a_newer_release_is_not_loaded(kind: str, tmp_path: Path) -> None:
    config = {"model": kind, "format": 1, "settings": {}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert kind_in(tmp_path).kind == kind
    (tmp_path / "config.json").write_text(json.dumps(config | {"settings": {"later": 1}}))
    with pytest.raises(NewerReleaseError, match=r"it records later, which"):
        kind_in(tmp_path)
