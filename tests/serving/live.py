"""An experiment as it would run: users assigned by the product, answers logged by it, and outcomes that follow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from configs.serving import Experiment, ExperimentFile
from serving.experiments import Experiments, Exposure

DAY = 86_400
START = 1_750_000_000


def experiment(**overrides: Any) -> Experiment:
    content: dict[str, Any] = {
        "name": "longer",
        "arms": [{"name": "control"}, {"name": "challenger", "version": "v2"}],
        "analysis": {"horizon_s": 2 * DAY, "tuned_users": 2000, "min_users": 100},
    }
    content["analysis"] |= overrides.pop("analysis", {})
    return Experiment.model_validate(content | overrides)


def lived(
    made: Experiment, users: int = 2000, rates: tuple[float, ...] = (0.2, 0.3), seed: int = 0, days: float = 10.0
) -> tuple[list[Exposure], pd.DataFrame]:
    """Return exposures, and outcomes as in their file. Each user comes twice and, at the arm's rate, watches a film that was shown."""
    rng = np.random.default_rng(seed)
    assigner = Experiments(ExperimentFile(experiments=(made,)))
    names = [arm.name for arm in made.arms]
    exposures, outcomes = [], []
    for user in range(users):
        first = START + int(rng.integers(0, int(days * DAY)))
        found = assigner.assign(user, first)
        if found.experiment is None:
            continue
        assert found.arm is not None
        for visit, time in enumerate((first, first + 3600)):
            shown = [int(item) for item in rng.choice(100, 5, replace=False)]
            version = "v1" if found.version == "champion" else found.version
            request = f"r{user}-{visit}"
            exposures.append(Exposure(time, user, request, version, shown, found.experiment, found.arm, found.revision))
            if visit == 0 and rng.random() < rates[names.index(found.arm)]:
                outcomes.append((user, time + 60, shown[0], 1.0, request))
    return exposures, pd.DataFrame(outcomes, columns=["user_id", "timestamp", "item_id", "value", "request_id"])


def outcomes_file(frame: pd.DataFrame, path: Path) -> Path:
    if path.suffix == ".csv":
        frame.to_csv(path, index=False)
    elif path.suffix == ".parquet":
        frame.to_parquet(path)
    else:
        frame.to_json(path, orient="records", lines=True)
    return path
