"""`recsys gpu`, the hourly sweep, and what this project tells the worker of `prefect-runpod`."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from uuid import uuid4

import pytest
from prefect.client.schemas.objects import WorkPool
from prefect.states import Completed, Pending, Running

from flows.reap import reap
from infra.registry import git_commit
from infra.runpod import RunPodSettings
from prefect_runpod import RunPodWorker
from prefect_runpod.job import RunPodJobConfiguration
from prefect_runpod.pods.order import Marks, Order, OrderError
from runpod_double.prefect_client import a_run, rent, with_client
from runpod_double.runpod_api import IMAGE, RunPodDouble
from tests.flows.cli.test_main import recsys


def ordered(pool: WorkPool, settings: RunPodSettings, image: str = IMAGE) -> Order:
    """Return the order for a run on the pool."""
    run = with_client(lambda client: a_run(client, Pending()))
    configuration = RunPodJobConfiguration(image=image, command="prefect flow-run execute")
    configuration.prepare_for_flow_run(run, work_pool=pool)
    return configuration.order(settings, commit="a" * 40)


def test_a_pod_has_this_projects_name_marks_and_launcher(pool: WorkPool) -> None:
    order = ordered(pool, RunPodSettings(server_url="https://prefect.example.org/api"))
    body = order.body("NVIDIA L4", 0.44, "exec")
    assert body["name"].startswith("recsys-") and body["entrypoint"] == ["python", "-m", "infra.runpod.launcher"]
    assert {"RECSYS_POD_RUN", "RECSYS_POD_COMMIT"} <= body["env"].keys()
    assert not [name for name in body["env"] if name.startswith("PREFECT_POD_")]


def test_the_advice_names_what_this_project_has(pool: WorkPool) -> None:
    with pytest.raises(OrderError, match=r"have no image.*train\.Dockerfile.*pools\.gpu_image"):
        ordered(pool, RunPodSettings(), image="")
    with pytest.raises(OrderError, match=r"RECSYS_RUNPOD_SERVER_URL.*RECSYS_PUBLIC_API_URL.*RECSYS_RUNPOD_ALLOW_PRIVATE"):
        ordered(pool, RunPodSettings(server_url="http://127.0.0.1:4200/api"))


def test_a_worker_reads_this_projects_settings_and_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECSYS_RUNPOD_LOOK_EVERY_S", "7.5")
    monkeypatch.setenv("PREFECT_RUNPOD_LOOK_EVERY_S", "1")
    worker = RunPodWorker(work_pool_name="gpu")
    assert worker._runpod.look_every_s == 7.5 and worker._commit == git_commit()


@pytest.mark.full
def test_people_can_list_what_is_rented_and_end_what_nobody_wants(
    pool: WorkPool, double: RunPodDouble, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    works, ended = [with_client(lambda c, s=state: a_run(c, s, pool)) for state in (Running(), Completed())]  # type: ignore[misc]
    wanted, left_over = [rent(double, Marks(pool.id, run.id, 0, 600, 3600)) for run in (works, ended)]
    foreign = rent(double, Marks(uuid4(), uuid4(), 0, 600, 3600))
    nobodys = double.rent({"name": "notebook", "image": "i", "gpu": {"id": "NVIDIA A40", "count": 2}, "args": "sleep 60"})
    with_client(lambda client: client.update_flow_run(works.id, infrastructure_pid=wanted.id))
    assert recsys("gpu", "list", "--json", str(tmp_path / "ls.json")) == 0
    rows = {row["pod"]: row for row in json.loads((tmp_path / "ls.json").read_text())}
    assert {rows[p.id]["pool"] for p in (wanted, left_over)} == {pool.name}
    assert rows[foreign.id]["pool"] == rows[nobodys.id]["pool"] == "other" and rows[nobodys.id]["usd_per_hour"] == 1.6
    assert "(running)" in rows[wanted.id]["run"] and "(completed)" in rows[left_over.id]["run"]
    printed = capsys.readouterr().out
    assert "4 pods, 2.92 USD per hour" in printed and left_over.id in printed

    assert recsys("gpu", "reap", "--json", str(tmp_path / "reap.json")) == 0
    assert [row["pod"] for row in json.loads((tmp_path / "reap.json").read_text())] == [left_over.id]
    assert {pod.id for pod in double.alive} == {wanted.id, foreign.id, nobodys.id}
    assert "1 pods deleted" in capsys.readouterr().out
    assert asyncio.run(reap()) == [], "the hourly flow finds nothing more"


def test_without_a_key_the_commands_say_what_to_do(
    double: RunPodDouble, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The server may hold the default block of another test, so the setting names a block that no test saves."""
    monkeypatch.delenv("RUNPOD_API_KEY")
    monkeypatch.setenv("RECSYS_RUNPOD_CREDENTIALS_BLOCK", "none-such")
    assert recsys("gpu", "list") == 1
    said = capsys.readouterr().err
    assert "Set RUNPOD_API_KEY" in said and "none-such" in said
