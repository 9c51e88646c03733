"""What holds for every kind that is counted or solved instead of trained."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from configs.kinds import spec_of
from configs.settings import EvaluationSettings
from models.evaluation import Split, masks_seen, metrics, rank_requests, split
from models.inference import WindowModel, load_inference_model
from models.kinds import recommender_class
from models.recommender import Recommender
from tasks.conformance.findings import Finding, Report
from tasks.conformance.process import check_training
from tests import synthetic

KINDS: dict[str, dict[str, Any]] = {
    "ease": {"regularisation": 5.0},
    "itemknn": {"neighbours": 12, "half_life_events": 3.0, "half_life_s": 86_400.0},
    "markov": {"smoothing": 2.0},
    "popular_lately": {"days": 3.0},
}
each_kind = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture(scope="module")
def parts() -> Split:
    return split(synthetic.interactions(60, 40, 20), EvaluationSettings(k_core=0))


def fitted(kind: str, parts: Split, **given: Any) -> Recommender:
    spec = spec_of(kind)
    model: Recommender = recommender_class(spec)(spec.settings.model_validate(KINDS[kind] | given))
    model.fit(parts.train, parts.valid, parts.catalogue, seed=0, mask_seen=True)
    return model


@each_kind
def test_it_keeps_the_contract_of_a_model(kind: str, tmp_path: Path) -> None:
    found: list[Finding] = []
    check_training(spec_of(kind), KINDS[kind], tmp_path, Report(lambda what: None, found.append))
    assert len(found) > 12 and not [each for each in found if not each.ok]


@each_kind
def test_a_stored_version_serves_the_scores_of_the_trained_model(kind: str, parts: Split, tmp_path: Path) -> None:
    model = fitted(kind, parts)
    model.save(tmp_path)
    served, asked = load_inference_model(tmp_path), parts.test
    assert isinstance(served, WindowModel)
    columns = np.searchsorted(parts.catalogue, asked.item_ids)
    found = served.window_scores(columns, asked.timestamps, asked.offsets, asked.request_times, list(asked.user_ids))
    np.testing.assert_array_equal(found, model.scores(asked).numpy())


@each_kind
def test_equal_weights_change_nothing_and_other_weights_do(kind: str, parts: Split) -> None:
    def scores(weights: np.ndarray | None) -> torch.Tensor:
        weighted = replace(parts, train=replace(parts.train, weights=weights))
        return fitted(kind, weighted).scores(parts.test)

    count = len(parts.train.item_ids)
    plain, equal = scores(None), scores(np.full(count, 4, np.float32))
    assert torch.equal(plain.argsort(dim=1, stable=True), equal.argsort(dim=1, stable=True))
    assert not torch.allclose(plain, scores(np.where(np.arange(count) % 2, 4, 0.25).astype(np.float32)), atol=1e-4)


@each_kind
def test_items_outside_the_catalogue_are_left_out_of_training(kind: str, parts: Split) -> None:
    smaller = replace(parts, catalogue=parts.catalogue[1:-1])
    scores = fitted(kind, smaller).scores(parts.test)
    assert scores.shape == (len(parts.test), len(parts.catalogue) - 2) and torch.isfinite(scores).all()


@each_kind
def test_it_is_ranked_with_and_without_seen_items(kind: str, parts: Split) -> None:
    model = fitted(kind, parts)
    masked, unmasked = (
        rank_requests(model, parts.test, parts.catalogue, mask_seen=mask, batch_size=16, top_k=40) for mask in (True, False)
    )
    bounds = zip(parts.test.offsets[:-1], parts.test.offsets[1:], strict=True)
    seen = [set(np.searchsorted(parts.catalogue, parts.test.item_ids[begin:end])) for begin, end in bounds]
    assert not any(seen[row] & set(top[top >= 0]) for row, top in enumerate(masked.top))
    assert any(seen[row] & set(top[:10]) for row, top in enumerate(unmasked.top))
    assert (masked.ranks <= unmasked.ranks).all() and metrics(masked.ranks, (10,))["hr@10"] > 0
    assert masks_seen("loo-exact", model.sequential)


@each_kind
def test_a_search_may_choose_only_values_that_its_settings_accept(kind: str) -> None:
    spec = spec_of(kind)
    assert spec.space
    for name, parameter in spec.space.items():
        assert parameter.holds(spec.settings.model_fields[name].default), f"a search could not try the default of {name}"
        for value in parameter.ends:
            spec.settings.model_validate({name: value})
