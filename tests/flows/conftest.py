from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import pytest
from prefect.client.orchestration import get_client
from prefect.logging.configuration import setup_logging
from prefect.testing.utilities import prefect_test_harness

from configs.settings import RetrainSettings
from tests import synthetic

QUICK = {
    "seed": 7,
    "tracking": {"mode": "off"},
    "validation": {"min_rows": 100},
    "evaluation": {"k_core": 5},
    "models": {
        "ss4rec": {
            "width": 16,
            "blocks": 1,
            "time_state": 4,
            "relation_state": 4,
            "max_length": 20,
            "max_epochs": 3,
            "device": "cpu",
        },
        "ncf": {"mf_width": 8, "mlp_width": 8, "mlp_hidden": [16, 8], "max_epochs": 2, "device": "cpu"},
    },
    "promotion": {
        "floors": {"hr_at_10": 0.01, "ndcg_at_10": 0.001},
        "baselines": ["popularity"],
        "resamples": 300,
        "sample_requests": 4,
        "max_request_s": 60,  # by the clock of a machine that may be busy
        "min_slice_requests": 20,
    },
    "report": {"recommendations": False},
}


def artifact_keys() -> set[str]:
    """Keys of all artifacts that the server holds; it answers with 200 at a time."""
    keys: set[str] = set()
    with get_client(sync_client=True) as client:
        for offset in range(0, 100_000, 200):
            page = client.read_artifacts(limit=200, offset=offset)
            keys |= {artifact.key for artifact in page if artifact.key}
            if len(page) < 200:
                break
    return keys


@pytest.fixture(scope="session", autouse=True)
def prefect_server() -> Iterator[None]:
    """A real Prefect server on a database of its own."""
    setup_logging()  # now, and not in the first test that captures output: the handlers keep the stream they find
    with prefect_test_harness(server_startup_timeout=180):
        yield


@pytest.fixture
def make_settings(tmp_path: Path) -> Callable[..., RetrainSettings]:
    """Settings of a run of seconds on a synthetic data set; keywords replace sections."""

    def make(frame: pd.DataFrame | None = None, **sections: object) -> RetrainSettings:
        path = synthetic.write_csv(tmp_path / "data", synthetic.interactions(80, 40, 25) if frame is None else frame)
        places = {
            "data": {"local_path": str(path), "cache_dir": str(tmp_path / "cache")},
            "store": {"url": f"file:{tmp_path}/store"},
            "work_dir": str(tmp_path / "work"),
        }
        return RetrainSettings.model_validate({**QUICK, **places, **sections})

    return make
