"""The exported program of SS4Rec gives the model's own scores, for any batch, and needs none of this code."""

from __future__ import annotations

import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from models.recommender import Requests
from models.sequences import histories
from models.ss4rec import SS4Rec
from tests.serving.versions import draw
from tests.tasks.stored import small_split


def padded(model: SS4Rec, requests: Requests) -> dict[str, torch.Tensor]:
    """Return the inputs of the program, as its description says."""
    length = model._settings.max_length
    read = histories(requests, model._vocabulary, length)
    offsets = read.offsets.tolist()
    parts = {"items": read.items, "seconds": read.intervals}
    if model._settings.calendar_input:
        parts["until"] = read.until
    inputs = {name: torch.zeros(len(requests), length, dtype=part.dtype) for name, part in parts.items()}
    for row, (begin, end) in enumerate(pairwise(offsets)):
        for name, part in parts.items():
            inputs[name][row, length - (end - begin) :] = part[begin:end]
    return inputs


@pytest.mark.parametrize(
    "options",
    [
        {"max_length": 7, "blocks": 2, "interval": "learned", "two_norms": True},
        {"layers": "time", "interval": "seconds"},
        {"layers": "relation", "interval": "none"},
        {"max_length": 7, "blocks": 3, "norm": "pre", "interval_embedding": True},
        {"max_length": 7, "calendar_input": True},
    ],
)
def test_the_program_gives_the_models_own_scores(options: dict[str, Any], tmp_path: Path) -> None:
    parts = small_split()
    model = draw(tmp_path, parts=parts, **options)
    program = model.program()
    asked = parts.test.take(np.arange(9))
    inputs = padded(model, asked)
    nothing = {name: torch.zeros_like(part[:1]) for name, part in inputs.items()}
    found = program.module(*(torch.cat([part, nothing[name]]) for name, part in inputs.items()))
    torch.testing.assert_close(found[:9], model.scores(asked), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found[9], model._cold_scores())  # a history of padding only
    assert list(program.inputs) == list(inputs) and set(program.meaning) == {*inputs, "scores"}


def test_the_vectors_of_users_and_items_give_the_scores(tmp_path: Path) -> None:
    parts = small_split()
    model = draw(tmp_path, parts=parts)
    asked = parts.test.take(np.flatnonzero((parts.test.lengths > 0) & (parts.test.lengths <= model._settings.max_length)))
    torch.testing.assert_close(model.user_vectors(asked) @ model.item_vectors().T, model.scores(asked), rtol=1e-4, atol=1e-4)
    assert type(model).products


@pytest.mark.full
def test_a_process_without_this_project_runs_the_exported_file(tmp_path: Path) -> None:
    import pyarrow as pa

    from tasks.export.program import program_files

    parts = small_split()
    model = draw(tmp_path, parts=parts, max_length=7, calendar_input=True)
    asked = parts.test.take(np.arange(3))
    inputs = padded(model, asked)
    for name, content in program_files(model.program(), pa.array(parts.catalogue), None).items():
        (tmp_path / name).write_bytes(content)
    np.savez(tmp_path / "inputs.npz", **{name: part.numpy() for name, part in inputs.items()})
    code = (
        "import numpy as np, torch, sys; x = np.load('inputs.npz')\n"
        "scores = torch.export.load('model.pt2').module()(*(torch.from_numpy(x[name]) for name in x))\n"
        "np.save('scores.npy', scores.numpy()); assert 'models' not in sys.modules"
    )
    subprocess.run([sys.executable, "-P", "-c", code], cwd=tmp_path, check=True, timeout=600)
    np.testing.assert_allclose(np.load(tmp_path / "scores.npy"), model.scores(asked).numpy(), rtol=1e-4, atol=1e-4)
