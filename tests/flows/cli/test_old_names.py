"""The names that commands had before there were groups."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.main import get_command

from flows.cli.main import app
from flows.cli.old_names import OLD_NAMES
from tests import synthetic
from tests.flows.cli.test_main import recsys
from tests.flows.conftest import FirstRun

ROOT = Path(__file__).parents[3]
LINES = OLD_NAMES | {"etl --compact": "data compact", "etl --retry-quarantined": "data retry"}
# The other arguments of each line, and its exit status. All lines are run on the store of a first retraining.
GIVEN: dict[str, tuple[list[str], int]] = {
    "models": ([], 0),
    "show": (["champion"], 0),
    "train": (["--dataset", "films/none"], 1),
    "promote": (["CHAMPION", "--force", "--reason", "drill"], 1),
    "rollback": (["--reason", "drill"], 1),
    "audit": (["champion", "--draws", "1"], 0),
    "landing": (["--last", "2"], 0),
    "open": (["REPORT"], 0),
    "datasets": ([], 0),
    "datasets prune": (["--keep", "1", "--yes"], 0),
    "search": (["--dataset", "films/none"], 1),
    "compare": (["--set", "dataset=films/none"], 1),
    "replay": (["--set", "base_slices=500"], 1),
    "gpu ls": ([], 1),
    "etl --compact": ([], 1),
    "etl --retry-quarantined": (["--landing", "ZONE", "--set", "landing.settle_s=0"], 0),
}


def found_at(words: str) -> Any:
    command: Any = get_command(app)
    for word in words.split():
        command = command.commands[word]
    return command


def options_of(command: Any) -> list[tuple[object, ...]]:
    """Return the parameters of a command as a caller sees them."""
    return [
        (each.name, each.opts, str(each.type_descriptor.annotation), each.required, each.default, each.help)
        for each in command.params
    ]


@pytest.mark.parametrize(("old", "new"), OLD_NAMES.items())
def test_an_old_name_is_hidden_and_has_the_same_parameters(old: str, new: str) -> None:
    before, now = found_at(old), found_at(new)
    top = found_at(old.partition(" ")[0])
    assert (before.hidden or top.hidden) and not now.hidden
    assert options_of(before) == options_of(now)
    assert before.help == now.help


@pytest.fixture
def settings_file(first_run: FirstRun, tmp_path: Path) -> Path:
    """Write the settings of the first run, with the store and the working folder in `tmp_path`, and a landing zone beside them."""
    settings = first_run.copied(tmp_path)
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(json.loads(settings.model_dump_json(exclude_defaults=True))))
    synthetic.write_csv(tmp_path / "zone", synthetic.interactions(80, 40, 25))
    return path


@pytest.mark.parametrize("old", LINES)
def test_an_old_command_line_does_the_same(
    old: str,
    settings_file: Path,
    first_run: FirstRun,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("typer.launch", lambda path: 0)
    monkeypatch.delenv("RUNPOD_API_KEY", raising=False)
    folder, version = settings_file.parent, first_run.summary.version
    report = f"file:{folder}/store/{version.prefix}/manifest.json"
    given = [{"CHAMPION": version.version, "REPORT": report, "ZONE": f"{folder}/zone"}.get(word, word) for word in GIVEN[old][0]]

    def outcome(line: str) -> tuple[int, str, str, Any]:
        """Run the line on a fresh copy of the store. Return its exit status, what it printed, its error and its JSON."""
        shutil.rmtree(folder / "store")
        first_run.copied(folder)
        options = ["-c", str(settings_file), *(["--json", str(folder / "out.json")] if old != "open" else [])]
        options = [] if old == "gpu ls" else options
        (folder / "out.json").unlink(missing_ok=True)
        status = recsys(*line.split(), *given, *options)
        said = capsys.readouterr()
        written = json.loads((folder / "out.json").read_text()) if (folder / "out.json").exists() else None
        if isinstance(written, dict):
            written.pop("created", None)  # when a version was made
        return status, said.out, said.err[said.err.rfind("error: ") :] if status else "", written

    before, now = outcome(old), outcome(LINES[old])
    assert before == now
    assert before[0] == GIVEN[old][1]
    assert (before[3] is None) == (before[0] != 0 or old == "open")
    assert before[1] if before[0] == 0 else before[2].startswith("error: ")


@pytest.mark.parametrize("old", LINES)
def test_a_wrong_option_ends_with_the_same_status(old: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert recsys(*old.split(), "--no-such-option") == recsys(*LINES[old].split(), "--no-such-option") == 2
    assert "No such option" in capsys.readouterr().err


def test_no_message_or_page_names_an_old_command() -> None:
    verbs = sorted(OLD_NAMES, key=len, reverse=True)
    old = re.compile(rf"\brecsys ({'|'.join(verbs)})\b(?!\")")
    folders = ("benchmarks", "configs", "flows", "infra", "models", "serving", "tasks", "tests")
    texts = [ROOT / "README.md", ROOT / "Makefile", ROOT / "prefect.yaml", *(ROOT / "docs").rglob("*.md")]
    texts += [path for folder in folders for ending in ("py", "yaml", "html") for path in (ROOT / folder).rglob(f"*.{ending}")]
    named = {f"{path.relative_to(ROOT)}: {found.group()}" for path in texts for found in old.finditer(path.read_text())}
    assert not named
