"""Processes that run a model's code do not have the secrets of the process that starts them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from configs.kinds import register, registry, spec_of
from configs.settings import PromotionSettings, RetrainSettings
from models.plugins import load_apart
from tasks.conformance import check_kind
from tasks.conformance.findings import Report
from tasks.conformance.process import MODEL, check_training
from tasks.evaluation import check_folder
from tasks.training import run_apart
from tests.configs.test_child_processes import SECRETS
from tests.plugins import lately

TELLS = """
import os, sys
from pathlib import Path
Path({folder!r}, f"{{os.getpid()}}.txt").write_text(" ".join(sys.orig_argv) + "\\n" + "\\n".join(f"{{n}}={{v}}" for n, v in os.environ.items()))
"""


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Plant secrets in this process, and yield the folder in which each Python process that is started tells its environment."""
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("COVERAGE_PROCESS_CONFIG", raising=False)
    folder, modules = tmp_path / "told", tmp_path / "modules"
    folder.mkdir()
    modules.mkdir()
    (modules / "sitecustomize.py").write_text(TELLS.format(folder=str(folder)))
    monkeypatch.syspath_prepend(str(modules))
    yield folder
    registry._named.clear()


def environment_here(*given: object) -> dict[str, str]:
    """Return the environment of this process. The last argument is that of `run_apart`."""
    return dict(os.environ)


def secrets_in(text: str) -> set[str]:
    return {name for name, value in SECRETS.items() if value in text}


def test_a_training_has_the_keys_of_the_store_that_it_reads_and_nothing_else(told: Path, tmp_path: Path) -> None:
    here = RetrainSettings.model_validate({"store": {"url": f"file:{tmp_path}"}})
    on_s3 = RetrainSettings.model_validate({"store": {"url": "s3://films/production"}})
    options = {"trains": "nothing", "on_epoch": None, "threads": 1, "if_killed": ""}
    assert not secrets_in(str(run_apart(environment_here, here, **options)))
    assert secrets_in(str(run_apart(environment_here, on_s3, **options))) == {"AWS_SECRET_ACCESS_KEY"}


def test_the_code_of_a_plugin_finds_no_secret_wherever_it_runs(told: Path, tmp_path: Path) -> None:
    register([f"{lately.__name__}:SPEC"])
    found = check_kind(spec_of("lately"), {}, 300)
    assert found and all(each.ok for each in found), found
    check_training(spec_of("lately"), {}, tmp_path, Report(lambda what: None, lambda found: None))
    folder = tmp_path / MODEL
    check_folder(folder, PromotionSettings())
    model = load_apart(folder)
    assert len(model.catalogue)
    processes = [path.read_text() for path in told.iterdir()]
    for program in (
        "tasks.conformance.process train",
        "tasks.conformance.process again",
        "tasks.evaluation.load_check",
        "models.plugins.apart",
    ):
        own = [text for text in processes if program in text.partition("\\n")[0]]
        assert own, f"{program} has not told its environment"
        assert not any(secrets_in(text) for text in own), program
