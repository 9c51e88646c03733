"""`recsys init` says what it found, writes a settings file, and overwrites none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from configs.errors import SettingsError
from flows.cli.main import app
from tests import own_events


def test_init_prints_what_it_found_and_writes_the_settings_beside_the_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own_events.write(own_events.shop(), tmp_path / "shop")
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["init", "shop", "--json", "found.json"])
    assert done.exit_code == 0, done.output
    for said in (
        "shop.csv: events, 5,098 rows",
        "describes items",
        "occurred_at",
        "time (iso)",
        "260",
        "- open: 40%",
        "recsys retrain -c shop.yaml",
    ):
        assert said in done.output
    assert (
        "local_path: shop " in Path("shop.yaml").read_text()
        and json.loads(Path("found.json").read_text())["settings"] == "shop.yaml"
    )
    before = Path("shop.yaml").read_text()
    Path("shop.yaml").write_text("mine")
    refused = CliRunner().invoke(app, ["init", "shop"])
    assert isinstance(refused.exception, SettingsError) and "--force" in str(refused.exception)
    assert Path("shop.yaml").read_text() == "mine"
    assert CliRunner().invoke(app, ["init", "shop", "--force"]).exit_code == 0 and Path("shop.yaml").read_text() == before
    elsewhere = CliRunner().invoke(app, ["init", "shop", "--out", "nowhere/x.yaml"])
    assert isinstance(elsewhere.exception, SettingsError) and "existing folder" in str(elsewhere.exception)
