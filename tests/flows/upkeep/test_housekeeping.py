"""The daily housekeeping says what is old, deletes it only if a setting allows that, and shows a sign of life."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from configs.settings import RetentionSettings, RetrainSettings
from flows.upkeep import housekeeping
from infra.storage import open_store
from tasks.stages.housekeeping import stages


@pytest.mark.parametrize("automatic", [False, True])
def test_it_deletes_what_is_old_only_if_it_is_automatic(
    automatic: bool, make_settings: Callable[..., RetrainSettings], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = make_settings()
    told: list[dict[str, Any]] = []
    monkeypatch.setattr(stages, "emit_event", lambda event, **details: told.append({"event": event, **details}))
    store = open_store(settings.store)
    store.put("exposures/20200101/20200101T000000Z-host-1-0.jsonl", b"{}")
    export = settings.export.model_copy(update={"to": str(settings.work_dir / "exports")})
    said = housekeeping(
        settings.model_name, RetentionSettings(automatic=automatic), settings.landing, export, settings.store, settings.work_dir
    )
    assert (list(store.list("exposures/")) == []) is automatic
    (sign,) = told
    assert sign["event"] == "recsys.alive" and sign["payload"]["body"] == said and "none yet" in said and "1 file" in said
