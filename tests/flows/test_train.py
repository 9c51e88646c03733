"""The flow `train` as deployments start it: by their entrypoint, and with the parameters that they store."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from inspect import unwrap
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from prefect.flows import Flow, load_flow_from_entrypoint

from configs.settings import RetrainSettings
from flows import train as module
from flows.etl import etl
from flows.train import train
from infra.leases import leases
from infra.storage import open_store
from tasks.datasets import DatasetRef, list_datasets, plan_prune, prune_versions
from tasks.stages import Trained
from tasks.training import Beginning
from tests import synthetic

ROOT = Path(__file__).parents[2]
VERSION = SimpleNamespace(name="ranker", version="a version", metrics={"ndcg@10": 0.1})


class Chosen(str):
    """The name of a dataset version, which stands in for the version."""

    prefix = "datasets/small/old"


class NothingTrained(Trained):
    """Stands for the candidates of a stage that the test replaces."""

    def began(self, beginning: Beginning) -> Trained:
        return self


@pytest.mark.parametrize(
    ("stored", "expected"),
    [
        ({}, ["train ml-100k/new", "evaluate", "register", "clear"]),
        ({"hand_over": False, "dataset": "small/old"}, ["train small/old", "evaluate", "register", "clear"]),
        ({"hand_over": True, "dataset": "small/old"}, ["train small/old", "upload", "clear"]),
        ({"hand_over": True, "dataset": "small/old", "refit_epochs": 3}, ["refit ss4rec for 3 epochs", "upload", "clear"]),
    ],
)
def test_a_deployments_run_registers_or_uploads_what_it_trained(
    stored: dict[str, Any], expected: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    flow: Flow[..., Any] = load_flow_from_entrypoint(f"{ROOT}/flows/train.py:train")
    assert flow.name == "train" and set(flow.parameters.properties) == {
        "settings",
        "dataset",
        "hand_over",
        "refit_epochs",
        "parent",
    }
    parameters = flow.validate_parameters({"settings": RetrainSettings().model_dump(mode="json"), **stored})
    done: list[str] = []

    def note(what: str, result: Any = None) -> Any:
        done.append(what)
        return result

    stages: dict[str, Any] = {
        "run_lock": lambda *_: nullcontext(),
        "leased": lambda *_: nullcontext(),
        "chosen_dataset": lambda dataset, data, *_: Chosen(dataset or f"{data.dataset_name}/new"),
        "train_inline": lambda dataset, *_: note(f"train {dataset}", NothingTrained([])),
        "refit_model": lambda _, kind, epochs, *__: note(f"refit {kind} for {epochs} epochs"),
        "evaluate_candidates": lambda *_: note("evaluate"),
        "register_unjudged": lambda *_: note("register", VERSION),
        "upload_trained": lambda *_: note("upload"),
        "clear_checkpoints": lambda *_: note("clear"),
    }
    for name, stage in stages.items():
        monkeypatch.setitem(unwrap(flow.fn).__globals__, name, stage)
    assert flow.fn(**parameters) == (None if stored.get("hand_over") else VERSION)
    assert done == expected


class Over(Exception):
    """Ends the run where the test has seen enough."""


def test_pruning_keeps_the_dataset_of_a_training_under_way(
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
    assert leases(store) == {}, "a run that has ended still protects its dataset"
    assert plan_prune(store, 1).versions == [f"{refs[0].name}/{refs[0].version}"]
