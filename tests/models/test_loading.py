from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest

from configs.errors import VersionCorruptError
from configs.settings import ModelSettings
from models.kinds import KINDS
from models.loading import CandidateKind, load_recommender, make_recommender


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


def test_the_table_has_every_candidate_with_its_two_classes() -> None:
    assert set(KINDS) == set(get_args(CandidateKind))
    for name, kind in KINDS.items():
        assert kind.import_model().name == kind.import_serving_model().kind == name
