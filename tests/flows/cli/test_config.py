from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.flows.cli.test_main import recsys


def test_the_effective_settings_are_shown_with_their_sources(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RECSYS__STORE__URL", "file:elsewhere")
    (tmp_path / "x.yaml").write_text("seed: 3\n")
    out = tmp_path / "out.json"
    given = ["-c", str(tmp_path / "x.yaml"), "--set", "tracking.mode=off", "--json", str(out)]
    assert recsys("config", "show", *given) == 0
    assert [(row["key"], row["value"], row["origin"]) for row in json.loads(out.read_text())] == [
        ("seed", 3, str(tmp_path / "x.yaml")),
        ("store.url", "file:elsewhere", "RECSYS__STORE__URL"),
        ("tracking.mode", "off", "--set tracking.mode"),
    ]
    assert "--all lists them" in capsys.readouterr().out
    assert recsys("config", "show", "models.ss4rec", *given) == 0
    assert all(row["key"].startswith("models.ss4rec.") for row in json.loads(out.read_text()))
    assert recsys("config", "show", "--all", *given) == 0
    assert len(json.loads(out.read_text())) > 100
    assert recsys("config", "show", "--all", "--for", "serve", "--json", str(out)) == 0
    assert "redis.url" in {row["key"] for row in json.loads(out.read_text())}


def test_variables_of_other_commands_are_ignored_and_a_misspelt_one_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out.json"
    for name, value in {
        "REDIS__URL": "redis://x",
        "POOLS__GPU_LIMIT": "3",
        "SEARCH__TRIALS": "2",
        "VALUE__CURRENCY": "EUR",
    }.items():
        monkeypatch.setenv(f"RECSYS__{name}", value)
    assert recsys("config", "show", "--json", str(out)) == 0
    assert [row["key"] for row in json.loads(out.read_text())] == ["business_value.currency"]
    assert recsys("config", "show", "value", "--json", str(out)) == 0
    assert all(row["key"].startswith("business_value.") for row in json.loads(out.read_text()))
    monkeypatch.setenv("RECSYS__STOER__URL", "file:x")
    assert recsys("config", "show") == 1
    assert "RECSYS__STOER__URL cannot be used: stoer is not a setting; did you mean store?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ["models.ss5rec"],
            "models.ss5rec is not a setting or section of retrain; sections are baselines, business_value, challenger, data, drift",
        ),
        (["--for", "promote"], "--for promote: there is no such command with settings; the commands are retrain"),
        (["--set", "sed=1"], "--set sed cannot be used: sed is not a setting; did you mean seed?"),
    ],
)
def test_a_wrong_section_or_command_is_reported_in_one_sentence(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert recsys("config", "show", *arguments) == 1
    assert said in capsys.readouterr().err
