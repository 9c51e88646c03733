"""What a command writes and prints: the file of --json is tested before the run, and no value is interpreted as markup."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path

import pytest
from typer.models import OptionInfo

from configs.errors import SettingsError
from flows.cli import options
from flows.cli.main import _visible
from flows.cli.options import say, table, writable, write_json
from infra.registry import ModelRegistry
from infra.storage.local import LocalStore
from tests.flows.cli.test_main import ALL, recsys
from tests.tasks.stored import NAME, NOW, sealed

WRITTEN = {"json_file", "to", "page"}


def test_every_output_is_tested_before_the_run() -> None:
    found = {
        (" ".join(path), option.name)
        for path, command in ALL.items()
        for option in command.params
        # `to` is a version for rollback, and the address of a store for export, which tests it when it opens it.
        if option.name in WRITTEN and option.callback is None and path[-1] not in ("rollback", "export")
    }
    assert found == set()
    assert isinstance(options.Json.__metadata__[0], OptionInfo)  # type: ignore[attr-defined]


@pytest.mark.parametrize("command", ["retrain", "study search", "model train", "etl", "doctor"])
def test_an_output_in_a_missing_folder_is_refused_and_the_folder_is_not_created(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert recsys(*command.split(), "--json", "nope/out.json") == 1
    out, err = capsys.readouterr()
    assert (
        out == ""
        and err == "\nerror: nope/out.json cannot be written, because nope is not an existing folder. Create it first.\n"
    )
    assert list(tmp_path.iterdir()) == []


def test_the_files_for_a_page_and_an_opened_object_are_tested_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    away = str(tmp_path / "nope" / "x")
    report = ["experiment", "report", "name", "--experiments", "none.yaml", "--outcomes", "none.csv", "--page", away]
    for command in (report, ["data", "open", "file:/none", "--to", away]):
        assert recsys(*command) == 1
        assert "is not an existing folder" in capsys.readouterr().err


def test_an_output_that_is_a_folder_or_not_writable_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SettingsError, match="is a folder"):
        writable(tmp_path)

    def refused(self: Path, *arguments: object, **options: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "touch", refused)
    with pytest.raises(SettingsError, match=r"cannot be written \(Permission denied\)"):
        writable(tmp_path / "out.json")


def test_a_result_replaces_the_file_as_a_whole_and_keeps_a_link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "real.json").write_text("old")
    (tmp_path / "link.json").symlink_to(tmp_path / "real.json")
    path = writable(tmp_path / "link.json")
    write_json(path, {"a": 1})
    assert json.loads((tmp_path / "real.json").read_text()) == {"a": 1} and (tmp_path / "link.json").is_symlink()

    def full(self: Path, content: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(SettingsError, match="No space left on device"):
        write_json(path, {"a": 2})
    assert json.loads((tmp_path / "real.json").read_text()) == {"a": 1}
    assert sorted(each.name for each in tmp_path.iterdir()) == ["link.json", "real.json"]


def test_a_device_is_written_to_and_not_replaced(capfd: pytest.CaptureFixture[str]) -> None:
    write_json(writable(Path("/dev/stdout")), [1])
    assert json.loads(capfd.readouterr().out) == [1]
    assert Path("/dev/stdout").is_symlink() and os.path.exists("/dev/null")


PLANTED = ["events[copy].csv", "[/v1]", "[bold]", ":smile:", "[link=http://x]y[/link]", "a\x1b[2Jb"]


def test_no_value_of_a_table_is_interpreted_as_markup(capsys: pytest.CaptureFixture[str]) -> None:
    table(PLANTED[:2], [PLANTED[:2], PLANTED[2:4], PLANTED[4:]])
    out = capsys.readouterr().out
    assert all(each in out for each in PLANTED[:5]) and out.count("events[copy].csv") == 2
    assert "\x1b[2J" not in out and r"a\x1b[2Jb" in out


def test_a_reason_with_brackets_is_shown_as_it_was_given(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = LocalStore(tmp_path / "store")
    ref = sealed(store, tmp_path / "m")
    ModelRegistry(store).promote(NAME, ref.version, expected=0, reason="[/v1] is [red]back[/red]", now=NOW)
    given = ["--set", f"store.url=file:{tmp_path}/store", "--set", f"model_name={NAME}"]
    for command in (["model", "log"], ["model", "show", "champion"], ["model", "list"]):
        assert recsys(*command, *given) == 0
        assert command[1] == "list" or "[/v1] is [red]back[/red]" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("arguments", [["model", "show", "[/v1]"], ["[/v1]"], ["model", "show", "--[/v1]"]])
def test_a_mistake_with_brackets_is_shown_as_it_was_given(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert recsys(*arguments) in (1, 2)
    assert "[/v1]" in capsys.readouterr().err


def test_no_line_controls_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    say("a\x1b[2Jb\u202e")
    say("c\x1bd", err=True)
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == ("a\\x1b[2Jb\\u202e\n", "c\\x1bd\n")


def test_no_log_line_of_a_run_controls_the_terminal() -> None:
    record = logging.LogRecord("prefect.flow_runs", logging.INFO, "", 0, "%s landed", ("a\x1b[2J.csv",), None)
    assert _visible(record) and record.getMessage() == "a\\x1b[2J.csv landed"
