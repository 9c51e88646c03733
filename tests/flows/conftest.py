from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest
from prefect.client.orchestration import get_client
from prefect.logging.configuration import setup_logging
from prefect.testing.utilities import prefect_test_harness

from configs.settings import RetrainSettings
from flows.cli.terminal.display import PlainLines
from flows.retrain import RetrainSummary, retrain
from tests import synthetic
from tests.doubles.live_prefect import migrated_database
from tests.tasks.forked_check import forked_checks

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
        "resamples": 1100,
        "sample_requests": 4,
        "min_requests": 20,
        "min_slice_requests": 20,
    },
    "report": {"evidently": False},
    "monitoring": {"evidently": False},  # its import takes longer than such a run
}
# If each run is a separate process, the baseline's imports take longer than its training.
LEAN = {**QUICK, "models": {**QUICK["models"], "ncf": None}}  # type: ignore[dict-item]


@pytest.fixture(autouse=True)
def no_word_after_a_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands say after 10 s that they go on, and a busy machine takes longer. No test depends on how long its command takes."""
    monkeypatch.setattr(PlainLines, "_speak_up", lambda self: None)


def endless_training(folder: Path) -> dict[str, object]:
    """Return settings of a retraining in `folder` that only ends if somebody ends it."""
    path = synthetic.write_csv(folder / "data", synthetic.interactions(80, 40, 25))
    models = {**LEAN["models"], "ss4rec": {**LEAN["models"]["ss4rec"], "max_epochs": 50000, "patience": 50000}}  # type: ignore[dict-item, index]
    places = {
        "data": {"local_path": str(path), "cache_dir": str(folder / "cache")},
        "store": {"url": f"file:{folder}/store"},
        "work_dir": str(folder / "work"),
    }
    return {**LEAN, **places, "models": models}


def artifact_keys() -> set[str]:
    """Return the keys of all artifacts on the server, which returns at most 200 at once."""
    keys: set[str] = set()
    with get_client(sync_client=True) as client:
        for offset in range(0, 100_000, 200):
            page = client.read_artifacts(limit=200, offset=offset)
            keys |= {artifact.key for artifact in page if artifact.key}
            if len(page) < 200:
                break
    return keys


@pytest.fixture(scope="session", autouse=True)
def prefect_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Run a real Prefect server with its own database."""
    setup_logging()  # now, and not in the first test that captures output: the handlers keep the stream they find
    with ExitStack() as running:
        with pytest.MonkeyPatch.context() as environment:
            environment.delenv("COVERAGE_PROCESS_CONFIG", raising=False)  # nobody asks which lines of Prefect's server run
            # The harness makes its database in a folder of this name.
            folder = tmp_path_factory.mktemp("prefect")
            migrated_database(folder / "prefect-test.db")
            environment.setattr("prefect.testing.utilities.mkdtemp", lambda: str(folder))
            running.enter_context(prefect_test_harness(server_startup_timeout=600))
        yield


@pytest.fixture(autouse=True)
def cheap_load_checks() -> Iterator[None]:
    """Fork the load check's processes: for each test, because the same process may run tests of other folders afterwards."""
    with forked_checks():
        yield


@pytest.fixture
def make_settings(tmp_path: Path) -> Callable[..., RetrainSettings]:
    """Return a function that makes settings for a run of seconds on a synthetic dataset. Keywords replace sections."""

    def make(frame: pd.DataFrame | None = None, **sections: object) -> RetrainSettings:
        path = synthetic.write_csv(tmp_path / "data", synthetic.interactions(80, 40, 25) if frame is None else frame)
        places = {
            "data": {"local_path": str(path), "cache_dir": str(tmp_path / "cache")},
            "store": {"url": f"file:{tmp_path}/store"},
            "work_dir": str(tmp_path / "work"),
        }
        return RetrainSettings.model_validate({**QUICK, **places, **sections})

    return make


@dataclass(frozen=True)
class FirstRun:
    """A store after its first retraining, which was promoted. Tests of one process share it, so each works on a copy."""

    _settings: RetrainSettings
    summary: RetrainSummary

    def copied(self, folder: Path) -> RetrainSettings:
        """Return settings of the next run, on a copy of the store under `folder`."""
        source = self._settings.work_dir.parent
        shutil.copytree(source / "store", folder / "store")
        store = self._settings.store.model_copy(update={"url": f"file:{folder}/store"})
        return self._settings.model_copy(update={"store": store, "work_dir": folder / "work"})


@pytest.fixture(scope="session")
def first_run(tmp_path_factory: pytest.TempPathFactory) -> FirstRun:
    """Run the first retraining once in a process."""
    folder = tmp_path_factory.mktemp("first-run")
    path = synthetic.write_csv(folder / "data", synthetic.interactions(80, 40, 25))
    places = {
        "data": {"local_path": str(path), "cache_dir": str(folder / "cache")},
        "store": {"url": f"file:{folder}/store"},
        "work_dir": str(folder / "work"),
    }
    settings = RetrainSettings.model_validate({**QUICK, **places, "report": {"requests": 50}, "monitoring": {}})
    with forked_checks():
        return FirstRun(settings, retrain(settings))
