"""What evaluation measures, and the version folder that is assembled from it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from infra.registry import file_digests
from tasks.evaluation import assemble_version, evaluate, read_rankings
from tests.tasks.world import World


@pytest.mark.full
def test_evaluation_writes_nothing_and_a_version_folder_has_its_figures_for_any_challenger(world: World) -> None:
    popularity = world.candidates[0]
    folder = Path(popularity.folder)
    before = [file_digests(Path(candidate.folder)) for candidate in world.candidates]
    stored = world.stored()
    measured = evaluate(world.store, world.newer, world.candidates, "popularity", world.settings)
    assert [file_digests(Path(candidate.folder)) for candidate in world.candidates] == before and world.stored() == stored
    assert measured.evaluation.metrics == world.evaluation.metrics
    assert set(measured.evaluation.value.differences) == {"ss4rec"} and len(measured.samples) == 3

    assembled = assemble_version(folder, measured, world.candidates, world.store, world.newer, world.settings)
    assert assembled.path == str(folder) and assembled.files == file_digests(folder)
    assert {"model.safetensors", "ranks.parquet", "sample_requests.json", "catalogue.parquet"} < set(assembled.files)
    record = json.loads((folder / "evaluation.json").read_text())
    assert list(record)[-2:] == ["split", "training"] and "folder" not in record and "files" not in record
    assert record["metrics"] == measured.evaluation.metrics and set(record["training"]) == {"popularity", "ss4rec"}
    for kind, ranking in read_rankings(folder, world.newer, measured.parts).items():
        assert np.array_equal(ranking.ranks, measured.rankings[kind].ranks)
    assert "popularity, the challenger" in (folder / "recsys_report.html").read_text()
