"""The three files of a saved model: they are written and read here, so that a new kind does not repeat it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from safetensors.torch import load_file, save_file

from models.recommender import IntArray, Recommender

__all__ = ["Saved", "read_model", "write_model"]


@dataclass(frozen=True, eq=False)
class Saved:
    """What `write_model` wrote."""

    settings: dict[str, Any]
    tensors: dict[str, torch.Tensor]
    catalogue: IntArray  # (n_items,) raw item ids, ascending
    items: pd.DataFrame  # further columns of the items, one row each


def write_model(
    folder: Path, model: Recommender, tensors: Mapping[str, torch.Tensor], items: Mapping[str, Any] | None = None
) -> None:
    """Write `model.safetensors`, `config.json` and `vocabulary.parquet`, as `Recommender.save` must.

    Args:
        folder: Created if it is missing.
        model: Its name, settings and catalogue are stored.
        tensors: The weights by name.
        items: Further columns (n_items,) of the items, such as `train_events`: how often the train part has each.
    """
    folder.mkdir(parents=True, exist_ok=True)
    # safetensors does not store one tensor under two names: clone each.
    save_file({name: each.detach().cpu().contiguous().clone() for name, each in tensors.items()}, folder / "model.safetensors")
    config = {"model": model.name, "format": 1, "settings": model.settings()}
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    columns = {"item_id": model.catalogue, "index": np.arange(1, len(model.catalogue) + 1), **(items or {})}
    pd.DataFrame(columns).to_parquet(folder / "vocabulary.parquet", index=False)


def read_model(folder: Path) -> Saved:
    """Read what `write_model` wrote. Nothing is unpickled."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    items = pd.read_parquet(folder / "vocabulary.parquet")
    catalogue = items["item_id"].to_numpy(np.int64)
    return Saved(config["settings"], load_file(folder / "model.safetensors"), catalogue, items.drop(columns=["item_id", "index"]))
