from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from configs.redaction import safe_settings
from configs.settings import RetrainSettings, TrackingSettings
from models.recommender import EpochReport
from tasks.tracking import RunPlan, RunRecord, resume_tracking, services, start_tracking
from tasks.tracking import tracker as trackers
from tests.planted import PLANTED
from tests.tasks.tracking.wandb_files import read_offline_runs

LOG = logging.getLogger("tests.track")
PATIENT = TrackingSettings(timeout_s=300)  # a tracker starts Python and imports wandb, and the machine may be busy
EPOCHS = [EpochReport(epoch, 3, 3.0 / epoch, {"ndcg@10": epoch / 10}, 0.5, epoch) for epoch in (1, 2, 3)]


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Start without trackers of earlier tests, and without this user's account and settings."""
    monkeypatch.setattr(services, "_given_up", set())
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    yield
    assert not trackers._begun


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.chdir(folder)
    return folder


def plan_of(name: str = "ncf-1") -> RunPlan:
    settings = RetrainSettings.model_validate({"store": {"access_key_id": "AKIAXYZ", "secret_access_key": "hush"}})
    return RunPlan(name, "group-1", "compare", "ncf", 1, "ml-100k/abc", "loo-exact", safe_settings(settings), "0123abc")


def record_of(plan: RunPlan) -> RunRecord:
    return RunRecord(
        plan=plan,
        epochs=EPOCHS,
        best_epoch=3,
        resumed_from=None,
        parameters=10,
        device="cpu",
        seconds=1.5,
        requests=943,
        metrics={"hr@10": 0.2, "ndcg@10": 0.1},
        intervals={"ndcg@10": (0.08, 0.12)},
        beyond_accuracy={"coverage@10": 0.5},
        gate="held",
        gate_reasons=["not better"],
        version="v1",
    )


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.mark.full
def test_wandb_is_sent_what_the_record_holds(home: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    plan = plan_of()
    record = record_of(plan)
    tracker = start_tracking(plan, TrackingSettings(project="films", tags=("nightly",), timeout_s=300), tmp_path / "work", LOG)
    tracker.epoch(EPOCHS[0])
    tracker.epoch(EPOCHS[1])
    tracker.end(record)
    assert warnings(caplog) == []
    (run,) = read_offline_runs(tmp_path / "work")
    assert (run.name, run.group, run.job, run.project) == ("ncf-1", "group-1", "compare", "films")
    assert run.tags == ["ncf", "nightly"] and run.exit_code == 0
    kept = json.loads(json.dumps(record.to_dict()))
    for key in ("kind", "seed", "dataset", "protocol", "settings", "git_commit"):
        assert run.config[key] == kept["plan"][key]
    rows = [{key: row[key] for key in ("epoch", "loss", "seconds", "valid/ndcg@10")} for row in run.history]
    assert rows == [
        {
            "epoch": report["epoch"],
            "loss": report["loss"],
            "seconds": report["seconds"],
            "valid/ndcg@10": report["valid"]["ndcg@10"],
        }
        for report in kept["epochs"]
    ]
    assert run.summary["test/ndcg@10"] == 0.1 and run.summary["test/coverage@10"] == 0.5
    assert (run.summary["test/ndcg@10/low"], run.summary["test/ndcg@10/high"]) == tuple(kept["intervals"]["ndcg@10"])
    assert run.summary["gate"] == kept["gate"] and run.summary["version"] == kept["version"]
    assert RunRecord.from_dict(kept) == record
    assert not [path for path in home.rglob("*") if path.is_file()], "wandb wrote outside work_dir"
    everything = b"".join(path.read_bytes() for path in (tmp_path / "work").rglob("*") if path.is_file())
    assert b"hush" not in everything and b"AKIAXYZ" not in everything


@pytest.mark.full
def test_names_tags_settings_and_reasons_arrive_as_they_are_written(
    home: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    texts = [*PLANTED, "\x1b[31mred\x1b[0m [bold]"]
    tags = tuple(text for text in texts if len(text) <= 64)  # the most that W&B takes
    plan = replace(plan_of(" ".join(PLANTED)), dataset=PLANTED[1], settings={text: text for text in texts})
    tracker = start_tracking(plan, TrackingSettings(tags=tags, timeout_s=300), tmp_path / "work", LOG)
    tracker.end(replace(record_of(plan), gate_reasons=texts, version=PLANTED[0]))
    assert warnings(caplog) == []
    (run,) = read_offline_runs(tmp_path / "work")
    assert run.name == " ".join(PLANTED) and set(run.tags) == {"ncf", *tags}
    assert run.config["settings"] == {text: text for text in texts} and run.config["dataset"] == PLANTED[1]
    assert run.summary["gate_reasons"] == texts and run.summary["version"] == PLANTED[0]


@pytest.mark.full
def test_a_run_that_failed_is_marked(home: Path, tmp_path: Path) -> None:
    tracker = start_tracking(plan_of(), PATIENT, tmp_path, LOG)
    tracker.epoch(EPOCHS[0])
    tracker.end(None)
    (run,) = read_offline_runs(tmp_path)
    assert run.exit_code == 1 and len(run.history) == 1


def test_a_later_stage_ends_what_an_earlier_one_began(home: Path, tmp_path: Path) -> None:
    plan = plan_of()
    first = start_tracking(plan, PATIENT, tmp_path, LOG)
    assert resume_tracking(plan, PATIENT, tmp_path, LOG) is first
    first.end(None)
    other = resume_tracking(plan, TrackingSettings(mode="off"), tmp_path, LOG)  # as in a process that began none
    assert other is not first
    other.end(record_of(plan))


@pytest.mark.full
def test_an_interrupted_run_with_long_settings_is_sent_completely(home: Path, tmp_path: Path) -> None:
    plan = replace(plan_of(), settings={"long": "x" * 300_000})  # more than the pipe holds at once
    start_tracking(plan, PATIENT, tmp_path, LOG).end(record_of(plan))
    (run,) = read_offline_runs(tmp_path)
    assert len(run.config["settings"]["long"]) == 300_000 and len(run.history) == 3


def broken_wandb(folder: Path, monkeypatch: pytest.MonkeyPatch, **functions: str) -> None:
    """Put a package wandb, whose functions do what is given, before the real one."""
    body = {"init": "return Run()", "log": "pass", "finish": "pass"} | functions
    (folder / "wandb").mkdir(parents=True)
    (folder / "wandb" / "__init__.py").write_text(
        "import time\n"
        "class Run:\n"
        "    summary = {}\n"
        "    def define_metric(self, *names, **options): pass\n"
        f"    def log(self, row): {body['log']}\n"
        f"    def finish(self, exit_code): {body['finish']}\n"
        "Settings = dict\n"
        f"def init(**options): {body['init']}\n"
    )
    monkeypatch.syspath_prepend(str(folder))  # the writer finds modules where this process does


@pytest.mark.parametrize("where", ["init", "log", "finish"])
def test_a_tracker_that_raises_gives_one_warning(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    broken_wandb(tmp_path / "broken", monkeypatch, **{where: "raise OSError('no luck')"})
    for name in ("one", "two"):
        tracker = start_tracking(plan_of(name), PATIENT, tmp_path, LOG)
        tracker.epoch(EPOCHS[0])
        tracker.end(record_of(plan_of(name)))
    (said,) = warnings(caplog)
    assert said.endswith("OSError: no luck") and "the run itself is not affected" in said


@pytest.mark.parametrize("where", ["init", "log", "finish"])
def test_a_tracker_that_hangs_is_stopped(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    broken_wandb(tmp_path / "broken", monkeypatch, **{where: "time.sleep(10_000)"})
    plan = replace(plan_of(), settings={"long": "x" * 300_000})
    tracker = start_tracking(plan, TrackingSettings(timeout_s=1), tmp_path, LOG)
    process = tracker._targets[0]._process
    tracker.end(record_of(plan))
    assert process is not None and process.returncode is not None, "it is still running"
    (said,) = warnings(caplog)
    assert "not finished 1 s after the end of the run" in said or "exited with status 1" in said


def test_online_tracking_without_a_key_gives_one_warning(home: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    start_tracking(plan_of(), TrackingSettings(mode="online", timeout_s=300), tmp_path, LOG).end(record_of(plan_of()))
    (said,) = warnings(caplog)
    assert "No API key" in said


def test_online_tracking_without_a_network_gives_one_warning(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("WANDB_API_KEY", "a" * 40)
    start_tracking(plan_of(), TrackingSettings(mode="online", timeout_s=3), tmp_path, LOG).end(record_of(plan_of()))
    (said,) = warnings(caplog)
    # wandb tries to reach its server for longer than the run waits.
    assert said.endswith("the run itself is not affected. it had not finished 3 s after the end of the run")


def test_a_folder_that_cannot_be_written_gives_one_warning(home: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "wandb").write_text("a file where the folder should be")
    start_tracking(plan_of(), PATIENT, tmp_path, LOG).end(record_of(plan_of()))
    (said,) = warnings(caplog)
    assert "FileExistsError" in said


def test_a_missing_package_is_mentioned_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    caplog.set_level(logging.INFO)
    for name in ("one", "two"):
        start_tracking(plan_of(name), TrackingSettings(), tmp_path, LOG).end(record_of(plan_of(name)))
    (said,) = [record for record in caplog.records if record.name == LOG.name]
    assert said.levelno == logging.INFO and "wandb is not installed" in said.getMessage()


def test_tracking_that_is_off_logs_and_writes_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    start_tracking(plan_of(), TrackingSettings(mode="off"), tmp_path, LOG).end(record_of(plan_of()))
    assert not list(tmp_path.iterdir()) and not [record for record in caplog.records if record.name == LOG.name]


def test_settings_are_kept_without_credentials() -> None:
    given = RetrainSettings.model_validate({"store": {"access_key_id": "AKIAXYZ", "secret_access_key": "hush"}})
    settings = given.model_copy(  # as an earlier version may have stored them; today they are refused
        update={
            "store": given.store.model_copy(update={"endpoint_url": "https://me:pw@host:9000/x?sig=abc"}),
            "data": given.data.model_copy(update={"mirror_url": "https://token@host/films"}),
        }
    )
    kept = safe_settings(settings)
    assert set(settings.store.model_dump()) - set(kept["store"]) == {"access_key_id", "secret_access_key"}
    assert kept["store"]["endpoint_url"] == "https://host:9000/x" and kept["data"]["mirror_url"] == "https://host/films"
    assert kept["models"]["ss4rec"]["batch_tokens"] == settings.models.ss4rec.batch_tokens
    assert kept["evaluation"]["ks"] == [5, 10, 20] and kept["work_dir"] == ".recsys/work"
    json.dumps(kept)
