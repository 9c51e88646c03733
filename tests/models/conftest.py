from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pandas as pd
import pytest


@pytest.fixture(scope="session")
def ml_100k() -> pd.DataFrame:
    """The real ML-100K that RecBole ships, in its row order."""
    package = importlib.util.find_spec("recbole")
    assert package is not None and package.submodule_search_locations is not None
    path = Path(next(iter(package.submodule_search_locations))) / "dataset_example" / "ml-100k" / "ml-100k.inter"
    frame = pd.read_csv(path, sep="\t")
    frame.columns = pd.Index(["user_id", "item_id", "rating", "timestamp"])
    return frame.assign(timestamp=frame["timestamp"].astype("int64"), row=np.arange(len(frame)))
