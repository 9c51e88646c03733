"""The model as a program of `torch.export`: a file that torch, and runtimes that read such files, run without this project."""

from __future__ import annotations

import io
import json

import pyarrow as pa
import torch

from models.columns import Columns
from models.recommender import Program
from tasks.export.answers import parquet

__all__ = ["program_files"]


def program_files(program: Program, item_names: pa.Array, user_names: pa.Array | None) -> dict[str, bytes]:
    """Return the files of an exported model, by name.

    `model.pt2` is the program, `program.json` says what it takes and returns, `items.parquet` has the number of each item (its score
    has the place number - 1), and `users.parquet` the number of each user if the program takes users.

    Args:
        program: The model's forward pass.
        item_names: The team's own ids (n_items,) of the items, in the order of the scores.
        user_names: The team's own ids (U,) of `program.users`, if it has any. Users whose id is null get no row.
    """
    shapes = tuple({0: torch.export.Dim.DYNAMIC} for _ in program.inputs)
    with torch.no_grad():
        exported = torch.export.export(program.module, tuple(program.inputs.values()), dynamic_shapes=shapes)
    buffer = io.BytesIO()
    torch.export.save(exported, buffer)
    described = {
        "inputs": list(program.inputs),
        "meaning": program.meaning,
        "torch": torch.__version__,
        "load": "torch.export.load('model.pt2').module()(*inputs)",
    }
    files = {
        "model.pt2": buffer.getvalue(),
        "program.json": (json.dumps(described, indent=2) + "\n").encode(),
        "items.parquet": parquet({Columns.ITEM: item_names, "number": _numbers(len(item_names))}),
    }
    if user_names is not None:
        known = user_names.is_valid()
        columns = {Columns.USER: user_names, "number": _numbers(len(user_names))}
        files["users.parquet"] = parquet({name: column.filter(known) for name, column in columns.items()})
    return files


def _numbers(count: int) -> pa.Array:
    return pa.array(range(1, count + 1), pa.int64())
