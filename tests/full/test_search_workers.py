"""The workers of one study, each in its own process, on each database that can hold a study."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import optuna
import pytest
import yaml

from configs.errors import StoreUnavailableError
from configs.studies import SearchSettings
from infra.version_names import short_version
from tasks.search import conclude_study, open_study, run_trials
from tests import synthetic
from tests.doubles.live_prefect import migrated_database
from tests.flows.conftest import LEAN
from tests.ports import reserved_port
from tests.tasks.searching import SPACE, make_search

pytestmark = pytest.mark.full
BINARIES = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
PASSWORD = "pa55word"


@pytest.fixture(scope="module")
def postgresql() -> Iterator[str]:
    """Run a PostgreSQL server on the loopback (Debian's package `postgresql`), and yield its URL."""
    assert BINARIES, "PostgreSQL is not installed: apt-get install -y --no-install-recommends postgresql"
    # The server refuses to run as root, and its user cannot enter pytest's folders.
    other = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    made = subprocess.run(
        [*other, "mktemp", "-d", "--tmpdir=/tmp", "--suffix=-recsys-postgres"], capture_output=True, text=True, check=True
    )
    folder, binaries = made.stdout.strip(), BINARIES[-1]
    port = reserved_port()
    script = f"""set -e
cd {folder}
printf %s {PASSWORD} > password
{binaries}/initdb -D data -U recsys --pwfile=password --auth=scram-sha-256 >&2
exec {binaries}/postgres -D data -p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={folder} -c fsync=off >&2
"""
    process = subprocess.Popen([*other, "sh", "-c", script], stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        lines = []
        for line in process.stderr:
            lines.append(line)
            if "database system is ready" in line:
                break
        else:
            raise AssertionError("".join(lines))
        yield f"postgresql://recsys:{PASSWORD}@127.0.0.1:{port}/postgres"
    finally:
        stopped = [*other, str(binaries / "pg_ctl"), "-D", f"{folder}/data", "-m", "immediate", "stop"]
        subprocess.run(stopped, capture_output=True, check=False)
        process.communicate(timeout=300)
        subprocess.run([*other, "rm", "-r", folder], check=True)


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.nightly)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(request.getfixturevalue("postgresql")) if request.param == "postgresql" else f"sqlite:///{tmp_path}/studies.db"


def trials_of(settings: SearchSettings) -> list[optuna.trial.FrozenTrial]:
    assert settings.search.storage is not None
    address = settings.search.storage.get_secret_value().replace("postgresql://", "postgresql+psycopg://")
    return optuna.load_study(study_name=settings.search.study, storage=address).trials


def start_worker(settings: SearchSettings, *arguments: str) -> subprocess.Popen[str]:
    content = json.loads(settings.model_dump_json())
    assert settings.search.storage is not None and PASSWORD not in json.dumps(content)
    content["search"]["storage"] = settings.search.storage.get_secret_value()
    path = settings.work_dir.parent / "settings.json"
    path.write_text(json.dumps(content))
    command = [sys.executable, "-m", "tests.tasks.searching", str(path), *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_the_trial_of_a_killed_worker_is_begun_again(url: str, tmp_path: Path) -> None:
    store, dataset, settings = make_search(tmp_path, lost_after_s=1, storage=url, study="killed")
    worker = start_worker(settings, "0", "stay")
    assert worker.stdout is not None and worker.stdout.readline() == "epoch 1\n"
    worker.send_signal(signal.SIGKILL)
    assert worker.wait() == -signal.SIGKILL
    worker.stdout.close()
    lost = trials_of(settings)[0]
    assert lost.state.name == "RUNNING"
    ref = open_study(dataset, settings)
    assert ref.begun == 1 and run_trials(store, dataset, ref, settings) == 3
    record = conclude_study(store, dataset, ref, settings, datetime.now(UTC))
    states = [trial.state for trial in record.trials]
    assert states.count("complete") == 3 and states.count("failed") == 1 and record.under_way == 0
    assert record.trials[0].reason == "Its worker was lost."
    assert record.trials[0].parameters in [t.parameters for t in record.trials[1:]], "its parameters were not tried again"


def test_two_processes_on_one_study_lose_no_trial(url: str, tmp_path: Path) -> None:
    _, dataset, settings = make_search(tmp_path, trials=12, workers=2, storage=url, study="shared")
    open_study(dataset, settings)
    workers = [start_worker(settings, str(worker)) for worker in range(2)]
    said = [worker.communicate(timeout=1800)[0] for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0]
    assert sum(int(lines.split()[-1]) for lines in said) == 12
    trials = trials_of(settings)
    assert [t.number for t in trials] == list(range(12)) and {t.state.name for t in trials} == {"COMPLETE"}
    assert all(len(t.intermediate_values) == 2 and t.value == max(t.intermediate_values.values()) for t in trials)
    assert len({str(t.params) for t in trials}) == 12


@pytest.mark.nightly  # tests/flows/test_search.py shows both by day, one after the other
def test_a_run_whose_worker_is_killed_says_so_and_the_next_one_ends_in_the_gate(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT")}
    environment |= {"PREFECT_HOME": str(tmp_path / "prefect"), "PREFECT_SERVER_ANALYTICS_ENABLED": "false"}
    migrated_database(tmp_path / "prefect" / "prefect.db")
    path = synthetic.write_csv(tmp_path / "data", synthetic.interactions(80, 40, 25))
    places = {"data": {"local_path": str(path)}, "store": {"url": f"file:{tmp_path}/store"}, "work_dir": str(tmp_path / "work")}
    (tmp_path / "run.yaml").write_text(yaml.safe_dump({**LEAN, **places}))
    options = {"trials": 500, "workers": 2, "lost_after_s": 20, "space": SPACE}
    (tmp_path / "search.yaml").write_text(yaml.safe_dump({"search": options}))
    recsys = [sys.executable, "-m", "flows.cli"]
    subprocess.run(
        [*recsys, "etl", "-c", str(tmp_path / "run.yaml")], env=environment, check=True, capture_output=True, timeout=1800
    )
    command = [*recsys, "study", "search", "-c", str(tmp_path / "run.yaml"), "-c", str(tmp_path / "search.yaml")]
    first = subprocess.Popen(
        [*command, "--verbose"], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    assert first.stderr is not None
    said: set[str] = set()
    for line in first.stderr:
        said |= {worker for worker in ("worker 0", "worker 1") if f"search {worker}' - trial" in line}
        if len(said) == 2:
            os.kill(workers_of(first.pid)[0], signal.SIGKILL)
            break
    rest = first.communicate(timeout=1800)[1]
    assert first.returncode == 1 and "was killed, probably because the system ran out of memory" in rest
    assert rest.count("error: ") == 1 and "Traceback" not in rest

    kept = tmp_path / "work" / "searches.db"
    begun = len(optuna.load_study(study_name=None, storage=f"sqlite:///{kept}").trials)
    command += ["--set", f"search.trials={begun + 2}", "--json", str(tmp_path / "out.json")]
    second = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=1800)
    assert second.returncode == 0, second.stderr
    assert "Task run" not in second.stderr and "Finished in state" not in second.stderr, "a worker prints beside the story"
    assert re.search(r"^[\d:]{8} trial \d+ (complete|pruned) after \d+ epoch", second.stderr, re.MULTILINE), second.stderr
    summary = json.loads((tmp_path / "out.json").read_text())
    states = [trial["state"] for trial in summary["record"]["trials"]]
    assert states.count("complete") + states.count("pruned") == begun + 2 and "running" not in states
    assert (
        summary["challenge"]["decision"]["outcome"] in second.stdout
        and short_version(summary["challenge"]["version"]["version"]) in second.stdout
    )


def workers_of(parent: int) -> list[int]:
    """Return the processes that `parent` has spawned as workers."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            status, command = (entry / "status").read_text(), (entry / "cmdline").read_bytes()
        except (FileNotFoundError, ProcessLookupError):  # it has just ended
            continue
        if f"PPid:\t{parent}\n" in status and b"multiprocessing.spawn" in command:
            found.append(int(entry.name))
    return sorted(found)


def test_a_wrong_password_is_reported_without_quoting_it(postgresql: str, tmp_path: Path) -> None:
    _, dataset, settings = make_search(tmp_path, storage=postgresql.replace(PASSWORD, "anoth3r"))
    with pytest.raises(StoreUnavailableError, match="password authentication failed") as caught:
        open_study(dataset, settings)
    assert "anoth3r" not in str(caught.value) and "recsys:" not in str(caught.value)
