from __future__ import annotations

import json
from pathlib import Path

import pytest

from configs.errors import FrozenError
from configs.settings import RetrainSettings, StoreSettings
from flows.cli import doctor
from flows.cli.doctor import Finding
from infra.registry import ModelRegistry
from infra.storage.local import LocalStore
from tasks.datasets import DatasetRef
from tasks.gate import refuse_unjudgeable
from tasks.stages.gate import judge_stored
from tests.flows.cli.test_main import recsys
from tests.tasks.stored import NAME, NOW, sealed


def test_the_doctor_ends_with_1_where_something_is_broken(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "DEADLINE_S", 300.0)  # a busy machine takes seconds to import what the checks need
    store = ["--set", f"store.url=file:{tmp_path}/store"]
    assert recsys("doctor", *store) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in lines] == ["versions:", "store:", "Prefect:", "Redis:", "GPU:"]
    monkeypatch.setenv("RECSYS__REDIS__URL", "redis://127.0.0.1:9/0")
    assert recsys("doctor", *store, "--json", str(tmp_path / "out.json")) == 1
    assert {row["name"]: row["status"] for row in json.loads((tmp_path / "out.json").read_text())}["Redis"] == "broken"
    capsys.readouterr()
    monkeypatch.setattr(doctor, "examine", lambda *_: [Finding("store", "slow", "there was no answer in 4.0 s.")])
    assert recsys("doctor", *store) == 1, "nobody knows whether the store works"
    assert "SLOW    store: there was no answer in 4.0 s." in capsys.readouterr().out


def test_pruning_lists_first_and_deletes_when_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = LocalStore(tmp_path / "store")
    versions = [sealed(store, tmp_path / f"m{hour}", hour=hour).version for hour in range(4)]
    ModelRegistry(store).promote(NAME, versions[0], expected=0, reason="", now=NOW)
    (tmp_path / "ab.yaml").write_text(f"shadow: [{{version: {versions[1]}}}]\n")
    given = ["--set", f"store.url=file:{tmp_path}/store", "--set", f"model_name={NAME}", "--set", f"work_dir={tmp_path}/work"]
    command = ["model", "prune", "--keep", "1", "--experiments", str(tmp_path / "ab.yaml"), *given]
    assert recsys(*command) == 0
    assert "1 version, 0 drift pages and 0 run folders would be deleted; delete them with --yes" in capsys.readouterr().out
    assert len(ModelRegistry(store).versions(NAME)) == 4
    assert recsys(*command, "--yes", "--json", str(tmp_path / "out.json")) == 0
    assert "1 version, 0 drift pages and 0 run folders deleted" in capsys.readouterr().out
    assert [ref.version for ref in ModelRegistry(store).versions(NAME)] == [*versions[:2], versions[3]]
    assert json.loads((tmp_path / "out.json").read_text())["versions"] == [versions[2]]


def test_a_frozen_model_refuses_promotions_in_one_sentence_until_it_is_thawed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = LocalStore(tmp_path / "store")
    versions = [sealed(store, tmp_path / f"m{hour}", hour=hour).version for hour in range(2)]
    ModelRegistry(store).promote(NAME, versions[0], expected=0, reason="", now=NOW)
    given = ["--set", f"store.url=file:{tmp_path}/store", "--set", f"model_name={NAME}"]
    assert recsys("freeze", "--reason", " ", *given) == 1 and "Say why" in capsys.readouterr().err
    assert recsys("freeze", "--reason", "checkout is broken", *given) == 0
    assert "nothing is promoted until `recsys thaw`" in capsys.readouterr().out
    with pytest.raises(FrozenError, match="checkout is broken"):
        judge_stored.fn(NAME, versions[1], None, StoreSettings(url=f"file:{tmp_path}/store"))
    with pytest.raises(FrozenError, match="checkout is broken"):
        refuse_unjudgeable(store, DatasetRef("small", "abc", "", "", 1, 1, 1, 0, 0), RetrainSettings(model_name=NAME))
    assert recsys("model", "list", *given) == 0 and "frozen" in capsys.readouterr().out
    assert recsys("thaw", *given, "--json", str(tmp_path / "out.json")) == 0
    assert json.loads((tmp_path / "out.json").read_text())["kind"] == "thaw"
