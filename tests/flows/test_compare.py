"""A comparison on a real Prefect server, with real models on small data."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import yaml
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import StateType

from configs.errors import SettingsError
from configs.studies import CompareSettings
from flows.compare import compare
from infra.storage import open_store
from tests import synthetic
from tests.flows.cli.test_main import recsys
from tests.flows.conftest import artifact_keys
from tests.tasks.compared import ENTRIES, TINY_NCF, small_comparison
from tests.tasks.tracking.wandb_files import read_offline_runs


@pytest.fixture
def settings(tmp_path: Path) -> CompareSettings:
    synthetic.write_csv(tmp_path / "data", synthetic.interactions(60, 40, 25))
    return small_comparison(tmp_path, id=None, seeds=[1], max_parallel=2, tracking={"mode": "offline", "timeout_s": 300})


@pytest.mark.full
def test_a_comparison_runs_and_reports_and_a_second_one_runs_only_what_is_missing(settings: CompareSettings) -> None:
    first = compare(settings)
    store = open_store(settings.store)
    runs = {key: store.get(key) for key in store.list(f"comparisons/{first.id}/runs/")}
    assert first.complete and {entry.name for entry in first.entries} == {"popularity", "ncf", "ss4rec"}
    assert {key.rpartition("/")[2] for key in runs} == {
        f"{name}-1.{kind}" for name in ("popularity", "ncf", "ss4rec") for kind in ("json", "parquet")
    }
    assert json.loads(store.get(f"comparisons/{first.id}/report.json")) == json.loads(json.dumps(first.to_dict()))
    page = store.get(f"comparisons/{first.id}/report.html").decode()
    assert "ss4rec" in page and first.page.endswith(f"comparisons/{first.id}/report.html")
    tracked = read_offline_runs(settings.work_dir)
    assert [(run.name, run.group, run.exit_code) for run in tracked] == [
        (f"{name}-1", first.id, 0) for name in ("ncf", "popularity", "ss4rec")
    ]
    sealed = json.loads(runs[f"comparisons/{first.id}/runs/ss4rec-1.json"])
    assert tracked[2].summary["test/ndcg@10"] == sealed["metrics"]["ndcg@10"] and len(tracked[2].history) == len(sealed["epochs"])
    assert "summary" in (keys := artifact_keys()) and "run-ncf-1" not in keys

    second = compare(settings.model_copy(update={"tracking": settings.tracking.model_copy(update={"mode": "off"})}))
    assert second == first
    assert {key: store.get(key) for key in runs} == runs


@pytest.mark.full
def test_a_failed_run_is_named_and_the_others_are_reported(
    settings: CompareSettings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wild = {"name": "wild", "kind": "ncf", "settings": {**TINY_NCF, "learning_rate": 1e30}}
    config = small_comparison(tmp_path, entries=[*ENTRIES[:2], wild], reference="ncf", seeds=[1], max_parallel=1)
    path = tmp_path / "compare.yaml"
    path.write_text(yaml.safe_dump(json.loads(config.model_dump_json(exclude_defaults=True))))
    assert recsys("study", "compare", "-c", str(path), "--json", str(tmp_path / "out.json")) == 1
    told = capsys.readouterr()
    assert "against the reference" in told.out and "popularity" in told.out and "report.html" in told.out
    assert "wild seed 1" in told.err[told.err.rindex("error: ") :] and "Traceback" not in told.err
    found = json.loads((tmp_path / "out.json").read_text())
    assert {entry["name"] for entry in found["entries"]} == {"popularity", "ncf"} and len(found["matrix"]) == 2
    assert found["failures"][0]["entry"] == "wild" and "not finite" in found["failures"][0]["reason"]
    assert json.loads(open_store(config.store).get("comparisons/small/report.json")) == found
    with get_client(sync_client=True) as client:
        ended = [run.state_type for run in client.read_flow_runs() if run.parameters.get("settings", {}).get("id") == "small"]
    assert ended.count(StateType.FAILED) == 1, "the flow must end as failed"


def test_the_message_says_that_dask_is_not_installed(settings: CompareSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "prefect_dask.task_runners", None)
    with pytest.raises(SettingsError, match="prefect-dask is not installed"):
        compare(settings.model_copy(update={"runner": "dask"}))
