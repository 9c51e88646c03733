"""Data that keeps arriving, on a real Prefect server and at the command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import yaml
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey
from prefect.client.schemas.sorting import ArtifactSort

from configs.settings import RetrainSettings
from flows.etl import etl
from flows.monitor import monitor
from flows.retrain import retrain
from infra.storage import open_store
from infra.version_names import short_version
from tasks.datasets import FileAccount, list_datasets, read_manifest, read_table
from tasks.landing import Landing
from tasks.stages.data_artifacts import publish_data_artifact
from tests import synthetic
from tests.flows.cli.test_main import recsys
from tests.flows.conftest import artifact_keys
from tests.tasks.landed import csv

Make = Callable[..., RetrainSettings]


def landing_settings(make: Make, tmp_path: Path) -> RetrainSettings:
    """Return settings with a release of the earlier half of some events, and a zone where the later half arrives in two files."""
    frame = synthetic.interactions(80, 40, 25).sort_values("timestamp", ignore_index=True)
    half = len(frame) // 2
    settings = make(frame[:half])
    zone = tmp_path / "zone"
    zone.mkdir()
    (zone / "one.csv").write_text(csv(frame[half : half + 500]))
    (tmp_path / "two.csv").write_text(csv(frame[half + 450 :]))
    data = settings.data.model_copy(update={"landing": str(zone), "dataset": "films"})
    return settings.model_copy(
        update={"data": data, "landing": settings.landing.model_copy(update={"settle_s": 0.0, "compact_share": 0.4})}
    )


@pytest.mark.full
def test_a_retraining_adds_landed_files_to_the_release_and_trains_on_them(make_settings: Make, tmp_path: Path) -> None:
    settings = landing_settings(make_settings, tmp_path)
    release = settings.data.model_copy(update={"landing": None})
    base = etl(release, settings.validation, settings.store, settings.etl)
    assert base.name == "films" and base.number == 0
    first = retrain(settings)
    assert first.dataset.parents == (f"films/{base.version}",) and first.dataset.rows == base.rows + 500
    assert first.evaluation.dataset == f"films/{first.dataset.version}" and first.promoted
    assert "data" in artifact_keys()
    (tmp_path / "two.csv").rename(tmp_path / "zone" / "two.csv")
    second = retrain(settings)
    store = open_store(settings.store)
    assert second.dataset.rows == len(read_table(store, second.dataset, "interactions")) > first.dataset.rows
    assert second.decision.champion == first.version.version
    # More than landing.compact_share of the rows were in later parts, so the new version was compacted.
    assert len(read_manifest(store, "films", second.dataset.version)["layout"]["parts"]) == 1
    assert monitor(None, settings.model_name, settings.data, settings.drift, settings.store).verdict
    wanted = ArtifactFilter(key=ArtifactFilterKey(any_=["data"]))
    with get_client(sync_client=True) as client:
        shown = client.read_artifacts(artifact_filter=wanted, sort=ArtifactSort.CREATED_DESC)
    lines = [line.split(" | ") for artifact in shown for line in str(artifact.data).splitlines() if line.startswith("| two.csv")]
    rows, accepted, duplicates = (int(cell) for cell in lines[0][1:4])
    assert rows == accepted + 50 and duplicates == 50


@pytest.fixture
def config(make_settings: Make, tmp_path: Path) -> tuple[str, str]:
    settings = landing_settings(make_settings, tmp_path)
    path = tmp_path / "run.yaml"
    content = json.loads(settings.model_dump_json(exclude_defaults=True))
    zone = content["data"].pop("landing")
    path.write_text(yaml.safe_dump(content))
    return str(path), zone


@pytest.mark.full
def test_landed_files_are_added_compacted_and_pruned_at_the_command_line(
    config: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, zone = config
    out = tmp_path / "out.json"
    assert recsys("etl", "-c", path) == 0
    lazy = ["--set", "landing.compact_share=1"]
    assert recsys("etl", "-c", path, "--landing", zone, *lazy, "--json", str(out)) == 0
    landed = json.loads(out.read_text())
    assert landed["number"] == 1 and len(landed["parents"]) == 1
    assert "one.csv" in capsys.readouterr().out
    assert recsys("data", "compact", "-c", path, "--json", str(out)) == 0
    compacted = json.loads(out.read_text())
    assert compacted["parents"] == [f"films/{landed['version']}"] and compacted["rows"] == landed["rows"]
    assert recsys("data", "retry", "-c", path, "--landing", zone, "--json", str(out)) == 0
    assert json.loads(out.read_text()) == compacted
    capsys.readouterr()
    assert recsys("data", "files", "-c", path, "--json", str(out)) == 0
    runs = json.loads(out.read_text())
    assert [(run["kind"], len(run["accounts"])) for run in runs] == [("ingest", 1), ("compact", 0)]
    account = runs[0]["accounts"][0]
    assert account["rows"] == account["accepted"] + account["duplicates"] + account["quarantined"] == 500
    assert "one.csv" in (told := capsys.readouterr().out) and "taken to be complete until" in told
    assert recsys("data", "files", "-c", path, "--set", "data.dataset=other") == 0
    assert "nothing has landed yet" in capsys.readouterr().out
    assert recsys("data", "list", "-c", path) == 0
    both = [f"films/{landed['version']}", f"films/{compacted['version']}"]
    assert short_version(both[0], both) in (listed := capsys.readouterr().out) and "made from" in listed
    assert recsys("data", "prune", "--keep", "1", "-c", path, "--json", str(out)) == 0
    plan = json.loads(out.read_text())
    assert len(plan["versions"]) == 2 and not plan["deleted"] and "delete them with --yes" in capsys.readouterr().out
    assert len(list_datasets(open_store(RetrainSettings.model_validate(yaml.safe_load(Path(path).read_text())).store))) == 3
    assert recsys("data", "prune", "--keep", "1", "--yes", "-c", path) == 0
    assert recsys("data", "list", "-c", path, "--json", str(out)) == 0
    assert [ref["version"] for ref in json.loads(out.read_text())] == [compacted["version"]]
    assert recsys("etl", "-c", path, "--landing", str(tmp_path / "nowhere")) == 1
    assert "there is no such folder" in capsys.readouterr().err
    assert recsys("data", "compact", "-c", path, "--set", "data.dataset=other") == 1
    assert "nothing to compact" in capsys.readouterr().err


def test_a_delivery_without_a_good_row_fails_the_run_and_is_recorded(
    config: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, zone = config
    out = tmp_path / "out.json"
    assert recsys("etl", "-c", path, "--landing", zone) == 0
    (Path(zone) / "bad.csv").write_text("userId,movieId,rating,timestamp\n1,1,77,946684800\n")
    capsys.readouterr()
    assert recsys("retrain", "-c", path, "--set", f"data.landing={zone}") == 1
    told = capsys.readouterr().err
    assert "Nothing was added to films, because no row of the new file is good. bad.csv: rating is outside" in told
    assert recsys("etl", "-c", path, "--landing", zone) == 0, "later runs go on without the file"
    assert "Nothing was added: no file is new." in capsys.readouterr().out
    assert recsys("data", "list", "-c", path, "--json", str(out)) == 0
    last = json.loads(out.read_text())[-1]["last_delivery"]
    assert (last["rows"], last["added"], last["quarantined"]) == (1, 0, 1)
    assert "0 of 1 rows added, 1 bad" in " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert recsys("data", "retry", "-c", path, "--landing", zone, "--set", "validation.max_rating=100") == 0
    assert "bad.csv" in capsys.readouterr().out
    (Path(zone) / "same.csv").write_text("userId,movieId,rating,timestamp\n1,1,77,946684800\n\n")
    assert recsys("etl", "-c", path, "--landing", zone, "--set", "validation.max_rating=100") == 0
    assert "Nothing was added: the good rows were there before." in capsys.readouterr().out


def test_a_user_and_a_file_are_removed_at_the_command_line(
    config: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, zone = config
    out = tmp_path / "out.json"
    (Path(zone) / "extra.csv").write_text("userId,movieId,rating,timestamp\n9001,1,3,946684800\n9002,1,4,946684800\n")
    assert recsys("etl", "-c", path, "--landing", zone) == 0
    given = ["--set", "data.dataset=films", "--reason", "a test", "-c", path]
    assert recsys("data", "remove", "--user", "9001", *given, "--json", str(out)) == 0
    entry = json.loads(out.read_text())
    assert entry["removal"]["events"] == 1 and entry["removal"]["reason"] == "a test"
    assert f"run {entry['number']}: removed user 9001 (1 events)" in capsys.readouterr().out
    assert recsys("data", "remove", "--file", "extra.csv", *given) == 0
    assert "removed file extra.csv (1 events)" in (told := capsys.readouterr().out) and "reads its files once more" in told
    assert recsys("data", "files", "-c", path) == 0
    assert "removed file extra.csv" in capsys.readouterr().out
    assert recsys("data", "remove", "--undo", str(entry["number"] + 1), *given) == 0
    assert recsys("etl", "-c", path, "--landing", zone, "--json", str(out)) == 0
    events = read_table(
        store := open_store(RetrainSettings.model_validate(yaml.safe_load(Path(path).read_text())).store),
        list_datasets(store)[-1],
        "interactions",
    )
    assert events["user_id"].isin([9001, 9002]).sum() == 1
    for wrong in (["--time", "5"], [], ["--file", "a", "--user", "1"], ["--undo", "1", "--item", "2"]):
        assert recsys("data", "remove", *wrong, *given) == 1
        assert "Name what to remove: --user, --item, both" in capsys.readouterr().err


def test_a_release_without_new_rows_says_so(make_settings: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    frame = synthetic.interactions(80, 40, 25)
    given = ["--set", f"store.url=file:{tmp_path}/s", "--set", "data.dataset=films", "--set", f"etl.work_dir={tmp_path}/w"]
    for number, rows in enumerate((frame, pd.concat([frame, frame.iloc[:50].assign(rating=99.0)], ignore_index=True))):
        path = synthetic.write_csv(tmp_path / str(number), rows)
        assert recsys("etl", *given, "--set", f"data.local_path={path}") == 0
    told = capsys.readouterr().out
    assert "2,000 rows, 0 quarantined, 2,000 added" in told
    assert "2,050 rows, 50 quarantined, nothing added, because this version was there before" in told


def test_a_run_over_very_many_files_shows_some_and_says_so(monkeypatch: pytest.MonkeyPatch, make_settings: Make) -> None:
    shown: list[str] = []
    monkeypatch.setattr("tasks.stages.data_artifacts.publish_markdown", lambda text, key, description: shown.append(text))
    base = etl(make_settings().data, make_settings().validation, make_settings().store, make_settings().etl)
    bad = {"rating is outside": 2}
    accounts = [
        FileAccount(f"{n}.csv", "ab", "events", 0, 1, "accepted", 2, 0, 0, 2, bad, extra_columns=("device",)) for n in range(600)
    ]
    landing = Landing(base, 1, tuple(accounts), {"x.csv": "it grows"}, 0, 1_700_000_000)
    publish_data_artifact.__wrapped__(base, landing=landing)  # type: ignore[attr-defined]
    rows = [line for line in shown[-1].replace("<br>", " ").splitlines() if ".csv |" in line]
    assert len(rows) == 501 and "waiting: it grows" in rows[-1] and "100 more files" in shown[-1]
    assert "rating is outside: 2; not read: device" in rows[0]
