from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from infra.storage.local import LocalStore
from models.evaluation import rank_requests
from models.inference import served_events
from tasks.evaluation import compare_windows, served_window
from tests.serving.versions import draw, full_pass
from tests.tasks.stored import small_split, stage_popularity

LENGTH = 5


@pytest.mark.parametrize("known_share", [1.0, 0.7])
def test_the_comparison_equals_one_pass_over_each_window(known_share: float, tmp_path: Path) -> None:
    """The two agree even if the model does not know a third of the items."""
    parts = small_split()
    known = parts.catalogue[np.arange(len(parts.catalogue)) < known_share * len(parts.catalogue)]
    few = parts.test.take(np.arange(12))
    model = draw(tmp_path, parts=replace(parts, catalogue=known, train=_only(parts.train, known)), max_length=LENGTH)
    found = compare_windows(tmp_path, model.catalogue, replace(parts, test=few), resamples=200, seed=0)
    assert found is not None and found.max_length == LENGTH and found.above == found.requests == 12
    common, ndcg = [], {"judged": [], "served": []}
    for row in range(len(few)):
        one = few.take(np.array([row]))
        events = {
            "judged": [place for place in range(len(one.item_ids)) if one.item_ids[place] in known][-LENGTH:],
            "served": [
                place
                for place in range(len(one.item_ids) - served_events(len(one.item_ids), LENGTH), len(one.item_ids))
                if one.item_ids[place] in known
            ],
        }
        tops = {}
        for name, places in events.items():
            scores = full_pass(model, one.item_ids[places].tolist(), one.timestamps[places].tolist(), int(one.request_times[0]))
            scores[np.isin(model.catalogue, one.item_ids)] = -np.inf
            tops[name] = set(np.argsort(-scores, kind="stable")[:10].tolist())
            own = scores[model.catalogue == one.targets[0]]
            rank = int((scores >= own[0]).sum()) if len(own) else 99  # ties count against the model
            ndcg[name].append(1 / np.log2(1 + rank) if rank <= 10 else 0.0)
        common.append(len(tops["judged"] & tops["served"]) / 10)
    assert found.overlap == pytest.approx(np.mean(common)) and 0 < found.overlap < 1
    assert found.identical == pytest.approx(np.mean(np.array(common) == 1))
    assert found.judged == pytest.approx(np.mean(ndcg["judged"]), abs=1e-6)
    assert found.served == pytest.approx(np.mean(ndcg["served"]), abs=1e-6)
    assert found.difference == pytest.approx(found.served - found.judged) and found.ci_low <= found.difference <= found.ci_high


def _only(train: object, known: np.ndarray) -> object:
    kept = np.isin(train.item_ids, known)  # type: ignore[attr-defined]
    lengths = np.bincount(train.row_of_event[kept], minlength=len(train))  # type: ignore[attr-defined, arg-type]
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    return replace(train, item_ids=train.item_ids[kept], timestamps=train.timestamps[kept], offsets=offsets, ratings=None)  # type: ignore[attr-defined, type-var]


def test_the_judged_half_is_the_gates_own_ranking(tmp_path: Path) -> None:
    parts = small_split()
    model = draw(tmp_path, parts=parts, max_length=LENGTH)
    found = compare_windows(tmp_path, model.catalogue, parts, resamples=200, seed=0)
    ranks = rank_requests(model, parts.test, parts.catalogue, mask_seen=True, batch_size=64).ranks
    expected = np.where(ranks <= 10, 1 / np.log2(1 + np.minimum(ranks, 10)), 0.0)
    assert found is not None and found.judged == pytest.approx(expected.mean(), abs=1e-9)


def test_only_a_bounded_sample_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(served_window, "MOST_REQUESTS", 7)
    parts = small_split()
    found = compare_windows(tmp_path, draw(tmp_path, parts=parts, max_length=LENGTH).catalogue, parts, resamples=50, seed=0)
    assert found is not None and (found.above, found.requests) == (len(parts.test), 7)


def test_there_is_nothing_to_compare_without_a_state_or_without_long_histories(tmp_path: Path) -> None:
    parts = small_split()
    model = draw(tmp_path / "long", parts=parts, max_length=50)
    assert compare_windows(tmp_path / "long", model.catalogue, parts, resamples=50, seed=0) is None
    stage_popularity(LocalStore(tmp_path / "store"), tmp_path / "counts", parts)
    assert compare_windows(tmp_path / "counts", parts.catalogue, parts, resamples=50, seed=0) is None
