"""What a run under way uses stays in the store, whatever is pruned meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from configs.settings import RetrainSettings
from flows import train as module
from flows.etl import etl
from flows.train import train
from infra.leases import leases
from infra.storage import open_store
from tasks.datasets import DatasetRef, list_datasets, plan_prune, prune_versions
from tests import synthetic


class Over(Exception):
    """Ends the run where the test has seen enough."""


def test_a_pruning_leaves_the_dataset_of_a_training_under_way(
    make_settings: Callable[..., RetrainSettings], monkeypatch: pytest.MonkeyPatch
) -> None:
    def built(users: int) -> DatasetRef:
        settings = make_settings(synthetic.interactions(users, 40, 25))
        return etl(settings.data, settings.validation, settings.store, settings.etl, settings.landing)

    refs = sorted((built(users) for users in (60, 70, 80)), key=lambda ref: (ref.last, ref.rows))
    settings = make_settings()
    store = open_store(settings.store)
    seen: list[str] = []

    def prune_meanwhile(*_: Any) -> None:
        plan = plan_prune(store, 1)
        seen.extend(plan.versions)
        seen.append(plan.kept[f"{refs[0].name}/{refs[0].version}"])
        prune_versions(store, plan)
        raise Over

    monkeypatch.setattr(module, "train_inline", prune_meanwhile)
    with pytest.raises(Over):
        train(settings, f"{refs[0].name}/{refs[0].version}")
    assert seen[0] == f"{refs[1].name}/{refs[1].version}" and seen[1].startswith("used by a training of movie-ranker (process ")
    assert [ref.version for ref in list_datasets(store)] == [ref.version for ref in refs[::2]]
    assert leases(store) == {}, "a run that has ended still keeps its dataset"
    assert plan_prune(store, 1).versions == [f"{refs[0].name}/{refs[0].version}"]
