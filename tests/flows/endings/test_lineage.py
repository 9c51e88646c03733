"""Flows tell OpenLineage what they read and wrote, and how they ended."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest

from configs.errors import RecsysError
from configs.settings import RetrainSettings
from flows.etl import etl
from flows.rollback import rollback
from tests import synthetic
from tests.tasks.lineage.test_lineage import valid

Make = Callable[..., RetrainSettings]
pytestmark = [
    pytest.mark.full,
    pytest.mark.skipif(find_spec("openlineage") is None, reason="openlineage-python is not installed"),
]


def test_runs_name_their_datasets_with_versions_and_say_why_they_failed(
    make_settings: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "lineage.jsonl"
    monkeypatch.setenv("OPENLINEAGE_URL", f"file:{file}")
    settings = make_settings(synthetic.interactions(40, 30, 20))
    built = etl(settings.data, settings.validation, settings.store, settings.etl)
    with pytest.raises(RecsysError):
        rollback(model_name=settings.model_name, store=settings.store)
    events = [valid(json.loads(line)) for line in file.read_text().splitlines()]
    assert [(event["job"]["name"], event["eventType"]) for event in events] == [
        (f"etl.{built.name}", "START"),
        (f"etl.{built.name}", "COMPLETE"),
        (f"rollback.{settings.model_name}", "START"),
        (f"rollback.{settings.model_name}", "FAIL"),
    ]
    done = events[1]
    assert [Path(item["name"]).name for item in done["inputs"]] == [Path(str(settings.data.local_path)).name]
    (written,) = done["outputs"]
    assert written["name"].endswith(f"/datasets/{built.name}")
    assert written["facets"]["version"]["datasetVersion"] == built.version
    assert "champion" in events[3]["run"]["facets"]["errorMessage"]["message"]
