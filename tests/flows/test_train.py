"""The flow train as deployments start it: with their entrypoint, and with the parameters that are stored with them."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from prefect.flows import Flow, load_flow_from_entrypoint

from configs.settings import RetrainSettings
from tasks.stages import Trained

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("stored", "expected"),
    [
        ({}, ["train ml-100k/new", "evaluate", "register", "clear"]),
        ({"hand_over": False, "dataset": "small/old"}, ["train small/old", "evaluate", "register", "clear"]),
        ({"hand_over": True, "dataset": "small/old"}, ["train small/old", "upload", "clear"]),
    ],
)
def test_a_deployments_run_registers_or_uploads_what_it_trained(
    stored: dict[str, Any], expected: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    flow: Flow[..., Any] = load_flow_from_entrypoint(f"{ROOT}/flows/train.py:train")
    assert flow.name == "train" and set(flow.parameters.properties) == {"settings", "dataset", "hand_over"}
    parameters = flow.validate_parameters({"settings": RetrainSettings().model_dump(mode="json"), **stored})
    done: list[str] = []

    def note(what: str, result: Any = None) -> Any:
        done.append(what)
        return result

    stages: dict[str, Any] = {
        "run_lock": lambda *_: nullcontext(),
        "chosen_dataset": lambda dataset, data, _: dataset or f"{data.dataset_name}/new",
        "train_inline": lambda dataset, *_: note(f"train {dataset}", Trained([])),
        "evaluate_candidates": lambda *_: note("evaluate"),
        "register_unjudged": lambda *_: note("register", "a version"),
        "upload_trained": lambda *_: note("upload"),
        "clear_checkpoints": lambda *_: note("clear"),
    }
    for name, stage in stages.items():
        monkeypatch.setitem(flow.fn.__globals__, name, stage)
    assert flow.fn(**parameters) == (None if stored.get("hand_over") else "a version")
    assert done == expected
