from __future__ import annotations

from pathlib import Path

import pytest

from configs.errors import VersionCorruptError
from configs.kinds import registered_kinds
from configs.settings import ModelSettings
from models.kinds import recommender_class, serving_class
from models.loading import load_recommender, make_recommender


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(VersionCorruptError, match=r"config\.json cannot be read"):
        load_recommender(tmp_path)
    (tmp_path / "config.json").write_text('{"model": "bert"}')
    with pytest.raises(VersionCorruptError, match="unknown kind 'bert'"):
        load_recommender(tmp_path)


def test_each_candidate_is_made_with_its_settings() -> None:
    settings = ModelSettings()
    for kind in ("popularity", "ncf", "ss4rec"):
        model = make_recommender(kind, settings)
        assert model.name == kind
        assert model.settings() == getattr(settings, kind).model_dump(mode="json")


def test_each_kind_has_its_two_classes() -> None:
    for name, spec in registered_kinds().items():
        if spec.serving is not None:
            assert recommender_class(spec).name == serving_class(spec).kind == name
