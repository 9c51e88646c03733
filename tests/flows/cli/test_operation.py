from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.flows.cli.test_main import recsys


def test_the_doctor_ends_with_1_where_something_is_broken(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = ["--set", f"store.url=file:{tmp_path}/store"]
    assert recsys("doctor", *store) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in lines] == ["versions:", "store:", "Prefect:", "Redis:", "GPU:"]
    monkeypatch.setenv("RECSYS__REDIS__URL", "redis://127.0.0.1:9/0")
    assert recsys("doctor", *store, "--json", str(tmp_path / "out.json")) == 1
    assert {row["name"]: row["status"] for row in json.loads((tmp_path / "out.json").read_text())}["Redis"] == "broken"
