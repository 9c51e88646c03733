"""Workers of one study as processes of their own, on each database that a study can lie in."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import optuna
import pytest

from configs.errors import StoreUnavailableError
from configs.search import SearchSettings
from tasks.search import begin, conclude, work
from tests.tasks.searching import make_search

pytestmark = pytest.mark.full
BINARIES = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
PASSWORD = "pa55word"


@pytest.fixture(scope="module")
def postgresql() -> Iterator[str]:
    """URL of a PostgreSQL server of its own on the loopback (Debian's package `postgresql`)."""
    assert BINARIES, "PostgreSQL is not installed: apt-get install -y --no-install-recommends postgresql"
    # The server refuses to run as root, and its user cannot enter pytest's folders.
    other = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    made = subprocess.run([*other, "mktemp", "-d", "/tmp/recsys-postgres-XXXXXX"], capture_output=True, text=True, check=True)
    folder, binaries = made.stdout.strip(), BINARIES[-1]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
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
        process.communicate(timeout=30)
        subprocess.run([*other, "rm", "-r", folder], check=True)


@pytest.fixture(params=["sqlite", "postgresql"])
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
    ref = begin(dataset, settings)
    assert ref.begun == 1 and work(store, dataset, ref, settings) == 3
    record = conclude(store, dataset, ref, settings, datetime.now(UTC))
    states = [trial.state for trial in record.trials]
    assert states.count("complete") == 3 and states.count("failed") == 1 and record.under_way == 0
    assert record.trials[0].reason == "Its worker was lost."
    assert record.trials[0].parameters in [t.parameters for t in record.trials[1:]], "its parameters were not tried again"


def test_two_processes_on_one_study_lose_no_trial(url: str, tmp_path: Path) -> None:
    _, dataset, settings = make_search(tmp_path, trials=12, workers=2, storage=url, study="shared")
    begin(dataset, settings)
    workers = [start_worker(settings, str(worker)) for worker in range(2)]
    said = [worker.communicate(timeout=300)[0] for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0]
    assert sum(int(lines.split()[-1]) for lines in said) == 12
    trials = trials_of(settings)
    assert [t.number for t in trials] == list(range(12)) and {t.state.name for t in trials} == {"COMPLETE"}
    assert all(len(t.intermediate_values) == 2 and t.value == max(t.intermediate_values.values()) for t in trials)
    assert len({str(t.params) for t in trials}) == 12


def test_a_wrong_password_is_told_without_it(postgresql: str, tmp_path: Path) -> None:
    _, dataset, settings = make_search(tmp_path, storage=postgresql.replace(PASSWORD, "anoth3r"))
    with pytest.raises(StoreUnavailableError, match="password authentication failed") as caught:
        begin(dataset, settings)
    assert "anoth3r" not in str(caught.value) and "recsys:" not in str(caught.value)
