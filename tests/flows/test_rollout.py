"""The flow that watches a rollout, and the commands that do the same without Prefect."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowFilter, FlowFilterName

from configs.settings import RolloutSettings, StoreSettings
from flows.rollout import rollout
from infra.measurements import Event, Measured, write_measured
from infra.registry import ModelRegistry, begin_rollout
from infra.storage.local import LocalStore
from tests.flows.cli.test_main import recsys
from tests.tasks.stored import NAME, NOW, sealed

BAD = {"errors": [Event(user, 2**32, True) for user in range(9)], "empty": [], "repeated": []}


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    """A store in which the second of two versions is rolled out, with stages of a second."""
    store = LocalStore(tmp_path / "store")
    old, new = (sealed(store, tmp_path / f"m{hour}", hour=hour) for hour in range(2))
    ModelRegistry(store).promote(NAME, old.version, expected=0, reason="first", now=NOW)
    settings = RolloutSettings(enabled=True, bake_s=1, settle_s=0, look_s=0.2)
    begin_rollout(store, new, settings, expected=1, reason="better", now=datetime.now(UTC), decision={})
    return store


def states() -> list[str]:
    with get_client(sync_client=True) as client:
        runs = client.read_flow_runs(flow_filter=FlowFilter(name=FlowFilterName(any_=["rollout"])))
    return [str(run.state.name) for run in runs if run.state is not None]


def test_a_run_takes_a_rollout_to_its_end_and_another_one_finds_nothing_to_do(store: LocalStore, tmp_path: Path) -> None:
    place = StoreSettings(url=f"file:{tmp_path}/store")
    last = rollout(NAME, place)
    assert last is not None and last.kind == "advance" and last.rolling_out is None
    assert rollout(NAME, place) is None
    assert {"Rolled out", "Nothing rolls out"} <= {*states()}


def test_a_run_returns_a_bad_champion(store: LocalStore, tmp_path: Path) -> None:
    write_measured(store, NAME, 2, Measured("host-1", requests=[90, 10], events=BAD), 1)
    last = rollout(NAME, StoreSettings(url=f"file:{tmp_path}/store"))
    assert last is not None and last.kind == "return" and "errors: 9 of 9" in last.reason
    assert "Returned" in states()


def test_the_commands_show_advance_and_abort_a_rollout_without_prefect(
    store: LocalStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["--set", f"store.url=file:{tmp_path}/store", "--set", f"model_name={NAME}"]
    out = tmp_path / "out.json"

    def said(*arguments: str) -> str:
        assert recsys("rollout", *arguments, *given, "--json", str(out)) == 0
        return capsys.readouterr().out

    shown = said("status")
    found: Any = json.loads(out.read_text())
    assert "stage 1 of 3" in shown and found["rollout"]["stage"] == 0 and len(found["checks"]) == 7
    assert "no worker has measured anything in this stage yet" in shown and found["workers"] == []
    write_measured(store, NAME, 2, Measured("host-1", requests=[10, 0], refused="The package torch is missing."), 1)
    shown = said("status")
    assert "host-1" in shown and "✗ refused" in shown and json.loads(out.read_text())["workers"][0]["name"] == "host-1"
    assert "serves 25% of the users" in said("advance", "--reason", "looks good")
    assert "serves everybody" in said("abort", "--reason", "complaints") and json.loads(out.read_text())["kind"] == "return"
    assert "no rollout of ranker is under way" in said("status")
    assert recsys("rollout", "abort", *given) == 1 and "serves everybody" in capsys.readouterr().err


def test_a_terminal_can_watch_instead_of_prefect(store: LocalStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert recsys("rollout", "watch", "--set", f"store.url=file:{tmp_path}/store", "--set", f"model_name={NAME}") == 0
    assert [entry.kind for entry in ModelRegistry(store).history(NAME)] == ["promote", "promote", "advance", "advance"]
