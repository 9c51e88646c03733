"""A challenger that was trained again on all events serves only if it passes its checks."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from configs.errors import VersionCorruptError
from configs.settings import RetrainSettings
from infra.registry import file_digests
from infra.storage.local import LocalStore
from tasks.evaluation import VersionFolder, check_refit
from tasks.evaluation.load_check import check_loaded
from tasks.training import Candidate, train_candidate
from tests.tasks.training.test_candidates import stored


class Made:
    """A judged popularity model, and its refit."""

    def __init__(self, root: Path) -> None:
        self.store = LocalStore(root / "store")
        self.dataset = stored(self.store, None)
        self.settings = RetrainSettings.model_validate(
            {"evaluation": {"k_core": 0}, "challenger": "popularity", "baselines": [], "work_dir": root / "work"}
        )
        self.judged, self.refit = self.trained(), self.trained(refit_epochs=1)

    def trained(self, **options: Any) -> Candidate:
        return train_candidate(self.store, self.dataset, "popularity", self.settings, **options)

    def checked(self, refit: Candidate | None = None, **training: Any) -> Any:
        settings = self.settings.model_copy(update={"training": self.settings.training.model_copy(update=training)})
        folder = VersionFolder(self.judged.folder, self.judged.files)
        return check_refit(self.store, self.dataset, folder, refit or self.refit, settings)


def test_a_refit_that_passes_is_a_complete_model_to_serve(tmp_path: Path) -> None:
    made = Made(tmp_path)
    found = made.checked(refit_users=20)
    refit, folder = found.refit, Path(found.folder.path)
    assert refit.served and refit.events == made.dataset.rows and refit.users == 20 and 0.5 < refit.agreement <= 1
    assert {"model.safetensors", "sample_requests.json", "catalogue.parquet", "refit.json"} <= set(found.folder.files)
    assert check_loaded(folder).ok and json.loads((folder / "refit.json").read_text())["agreement"] == refit.agreement
    assert found.folder.files == file_digests(folder)


def test_a_refit_that_collapsed_differs_too_much_or_cannot_be_used_is_not_served_and_says_why(tmp_path: Path) -> None:
    made = Made(tmp_path)
    collapsed = made.checked(replace(made.refit, collapsed="Training has collapsed."))
    assert not collapsed.refit.served and collapsed.refit.reason == "Training has collapsed." and collapsed.folder is None
    path = Path(made.refit.folder) / "model.safetensors"
    counts = load_file(path)["counts"]
    with pytest.raises(VersionCorruptError, match="was changed after it was trained"):
        save_file({"counts": counts[::-1].copy()}, path)
        made.checked()
    least = 0.9  # of the 15 items that a user has not seen, two lists of ten share at least five
    for weights, said in ((-counts, "training.refit_min_agreement is 90%"), (counts * np.float32("nan"), "not finite")):
        save_file({"counts": weights}, path)
        found = made.checked(replace(made.refit, files=file_digests(path.parent)), refit_min_agreement=least)
        assert not found.refit.served and said in found.refit.reason and found.folder is None
