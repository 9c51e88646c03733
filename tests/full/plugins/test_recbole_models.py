"""Every model of RecBole that the settings name is trained, stored and loaded, and scores every request."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from models.recbole_bridge import RecBoleModel, RecBoleSettings
from models.recbole_bridge.spec import GENERAL, SEQUENTIAL
from tasks.conformance.invented import invented_split

pytestmark = pytest.mark.full
PARTS = invented_split()
OFTEN = ("GRU4Rec", "SASRec", "BERT4Rec", "BPR", "LightGCN", "ItemKNN")
NAMES = [pytest.param(name, marks=() if name in OFTEN else pytest.mark.nightly) for name in (*SEQUENTIAL, *GENERAL)]


@pytest.mark.parametrize("name", NAMES)
def test_a_model_is_trained_and_loaded_by_its_name(name: str, tmp_path: Path) -> None:
    # DGCF draws as many items as a batch has users, so the batches of so few events must be small.
    batch = 64 if name == "DGCF" else 512
    model = RecBoleModel(RecBoleSettings(model=name, max_length=10, max_epochs=1, batch_size=batch, device="cpu"))
    report = model.fit(PARTS.train, PARTS.valid, PARTS.catalogue, seed=1, mask_seen=True)
    scores = model.scores(PARTS.test)
    assert len(report.epochs) == 1 and scores.shape == (len(PARTS.test), len(PARTS.catalogue)) and scores.std() > 0
    model.save(tmp_path)
    assert {path.suffix for path in tmp_path.iterdir()} == {".safetensors", ".json", ".parquet"}
    loaded = RecBoleModel.load(tmp_path).scores(PARTS.test)
    assert torch.allclose(loaded, scores, rtol=1e-4, atol=1e-5)
