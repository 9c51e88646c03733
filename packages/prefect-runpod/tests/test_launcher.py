"""What a pod does with a run, with a server that answers as Prefect's API does."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefect_runpod import launcher
from prefect_runpod.launcher import execute, turn_of
from prefect_runpod.project import Project, adopt
from runpod_double.runpod_api import RunPodDouble

STATES = ["SCHEDULED", "PENDING", "RUNNING", "CANCELLING", "PAUSED", "COMPLETED", "FAILED", "CRASHED", "CANCELLED"]


class PrefectApi:
    """One flow run: GET /flow_runs/ID and POST /flow_runs/ID/set_state. `fails` holds the statuses of the next answers."""

    def __init__(self) -> None:
        self.id = str(uuid4())
        self.run: dict[str, Any] | None = {
            "state": {"type": "PENDING"},
            "infrastructure_pid": "pod1",
            "run_count": 0,
            "empirical_policy": {"retry_type": None},
        }
        self.fails: list[int] = []
        self.pages: list[tuple[int, bytes]] = []
        """The status and content of the next answers."""
        self.lines: list[str] = []
        self.headers: dict[str, str] = {}
        api = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: Any) -> None: ...

            def _answer(self, status: int, content: Any = None) -> None:
                self.send_response(status)
                self.end_headers()
                self.wfile.write(json.dumps(content).encode())

            def do_GET(self) -> None:
                api.headers = dict(self.headers)
                if api.pages:
                    status, page = api.pages.pop(0)
                    self.send_response(status)
                    self.end_headers()
                    self.wfile.write(page)
                elif api.fails:
                    self._answer(api.fails.pop(0))
                else:
                    self._answer(200 if api.run else 404, api.run or {"detail": "Flow run not found"})

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                assert api.run is not None
                if self.path == "/logs/":
                    api.lines += [line["message"] for line in body]
                else:
                    api.run["state"] = body["state"]
                self._answer(201, {})

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def become(self, state: str) -> None:
        assert self.run is not None
        self.run["state"] = {"type": state}

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def api() -> Iterator[PrefectApi]:
    found = PrefectApi()
    yield found
    found.close()


class Ended(Exception):
    """Stands for the deletion of the pod."""


def launch(
    api: PrefectApi, command: list[str], monkeypatch: pytest.MonkeyPatch, seconds: float = 300, **environment: str
) -> list[float]:
    """Run the launcher until it waits for its deletion for the second time. Return its pauses."""
    pauses: list[float] = []

    def sleep(duration: float) -> None:
        pauses.append(duration)
        if len([pause for pause in pauses if pause > 1]) == 2:
            raise Ended
        time.sleep(0.01)

    monkeypatch.setattr(launcher, "time", SimpleNamespace(sleep=sleep, monotonic=time.monotonic))
    before = signal.getsignal(signal.SIGTERM)
    given = {"PREFECT_API_URL": api.url, "RUNPOD_POD_ID": "pod1", "PREFECT_POD_RUN": api.id, "PREFECT_POD_ATTEMPT": "0"}
    given |= {"PREFECT_POD_MAX_RUNTIME_S": str(seconds), "PREFECT_POD_LINGER_S": "7"}
    try:
        with pytest.raises(Ended):
            launcher.main(command, {**given, **environment})
    finally:
        signal.signal(signal.SIGTERM, before)
    return [pause for pause in pauses if pause > 1]


def python(script: str) -> list[str]:
    return [sys.executable, "-c", script]


@given(st.sampled_from(STATES), st.sampled_from([None, "pod1", "pod2"]), st.integers(0, 2), st.sampled_from([None, "in_process"]))
def test_a_run_that_is_due_is_executed_only_by_the_pod_that_it_names(
    state: str, pod: str | None, count: int, retry: str | None
) -> None:
    run = {"state": {"type": state}, "infrastructure_pid": pod, "run_count": count, "empirical_policy": {"retry_type": retry}}
    turn = turn_of(run, "pod1", 1)
    assert (turn.action == "execute") == (state == "PENDING" and pod == "pod1" and count <= 1)
    ended = state in launcher.FINAL
    assert (turn.action == "wait") == (pod is None and not ended)
    assert turn.crash == (pod == "pod1" and (state == "RUNNING" or (state == "SCHEDULED" and retry == "in_process")))
    assert turn_of(None, "pod1", 1).action == "rest"


def test_the_command_is_executed_once_and_the_pod_then_waits_for_its_deletion(
    api: PrefectApi, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    script = f"""
import json, urllib.request
open({str(tmp_path / "ran")!r}, "a").write("x")
body = json.dumps({{"state": {{"type": "COMPLETED"}}}}).encode()
urllib.request.urlopen(urllib.request.Request({api.url + "/flow_runs/" + api.id + "/set_state"!r}, body, method="POST"))
"""
    assert launch(api, python(script), monkeypatch) == [7.0, 300]
    launch(api, python(script), monkeypatch)  # the container was started again
    assert (tmp_path / "ran").read_text() == "x"


def test_a_container_that_was_restarted_during_the_run_crashes_it_and_does_not_train_again(
    api: PrefectApi, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    api.become("RUNNING")
    launch(api, python(f"open({str(tmp_path / 'ran')!r}, 'a')"), monkeypatch)
    assert api.run is not None and api.run["state"]["type"] == "CRASHED" and "RunPod restarted" in api.run["state"]["message"]
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("status", [0, 3])
def test_a_process_that_ends_without_a_final_state_crashes_the_run(
    api: PrefectApi, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    launch(api, python(f"raise SystemExit({status})"), monkeypatch)
    assert api.run is not None and f"status {status}" in api.run["state"]["message"]


def test_a_run_that_outlives_its_pods_time_is_killed_and_crashed(api: PrefectApi, monkeypatch: pytest.MonkeyPatch) -> None:
    launch(api, python("import time; time.sleep(60)"), monkeypatch, seconds=1)
    assert api.run is not None and "as long as max_runtime and max_cost allow" in api.run["state"]["message"]


def test_the_launcher_waits_for_a_server_that_does_not_answer(api: PrefectApi, monkeypatch: pytest.MonkeyPatch) -> None:
    api.fails = [503, 429, 500]
    launch(api, python("pass"), monkeypatch)
    assert api.run is not None and api.run["state"]["type"] == "CRASHED"
    api.become("PENDING")
    api.fails = [401]
    launch(api, python("pass"), monkeypatch)
    assert api.run["state"]["type"] == "PENDING", "a server that refuses is told nothing, and is not asked again"
    away = PrefectApi()
    away.close()
    launch(away, python("pass"), monkeypatch, seconds=0.05)


PAGES = [b"<html>restarting</html>", b"", b"null", b"[]", b"{}", b"7", b"\xff", b"[" * 100_000, b'{"detail": "no backend"}']
PAGES += [b'{"state": null, "infrastructure_pid": null, "run_count": 0, "empirical_policy": {}}']
PAGES += [b'{"state": {"type": "PENDING"}, "infrastructure_pid": "pod1", "run_count": null, "empirical_policy": {}}']


def test_the_launcher_waits_for_an_answer_that_can_be_read(api: PrefectApi, monkeypatch: pytest.MonkeyPatch) -> None:
    api.pages = [(200, page) for page in PAGES] + [(404, page) for page in PAGES if b"detail" not in page] + [(201, b"<html>")]
    launch(api, python("pass"), monkeypatch)
    assert not api.pages and api.run is not None and "without setting a final state" in api.run["state"]["message"]


def test_the_launcher_does_not_wait_for_a_run_that_does_not_exist(
    api: PrefectApi, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    api.run = None
    launch(api, python("pass"), monkeypatch)
    assert "rest: the run does not exist" in capfd.readouterr().out


def test_an_image_of_another_commit_fails_the_run_before_it_trains_and_says_so(
    api: PrefectApi, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    adopt(Project(commit=lambda: "b" * 40))
    command = python(f"open({str(tmp_path / 'ran')!r}, 'a')")
    launch(api, command, monkeypatch, PREFECT_POD_COMMIT="a" * 40)
    assert api.run is not None and api.run["state"]["type"] == "FAILED", "a crashed run would be tried again in a second pod"
    assert f"The image was built from the commit {'b' * 40}, but the worker's code is {'a' * 40}." in api.run["state"]["message"]
    assert not (tmp_path / "ran").exists()
    api.become("RUNNING")
    launch(api, command, monkeypatch, PREFECT_POD_COMMIT="a" * 40)
    assert api.run["state"]["type"] == "RUNNING", "the run of another pod was changed"
    api.become("PENDING")
    launch(api, command, monkeypatch, PREFECT_POD_COMMIT="a" * 40, PREFECT_POD_ALLOW_OTHER_COMMIT="true")
    assert (tmp_path / "ran").exists() and "The image was built from" in api.lines[0]


@pytest.mark.parametrize(("wanted", "own"), [(None, "b"), ("a", None), ("a", "a"), ("a+", "a"), ("", "")])
def test_commits_that_are_equal_or_unknown_do_not_count_as_different(wanted: str | None, own: str | None) -> None:
    assert launcher.other_commit(wanted, own) is None


def test_a_command_that_the_image_does_not_have_fails_the_run(api: PrefectApi, monkeypatch: pytest.MonkeyPatch) -> None:
    launch(api, ["no-such-command", "flow-run"], monkeypatch)
    assert api.run is not None and api.run["state"]["type"] == "FAILED"
    assert "cannot start no-such-command flow-run" in api.run["state"]["message"]


def test_the_launcher_waits_until_the_run_names_its_pod(api: PrefectApi, monkeypatch: pytest.MonkeyPatch) -> None:
    assert api.run is not None
    api.run["infrastructure_pid"] = None
    threading.Timer(0.3, lambda: api.run.update(infrastructure_pid="pod1")).start()  # type: ignore[union-attr]
    launch(api, python("pass"), monkeypatch)
    assert api.run["state"]["type"] == "CRASHED", "it was executed"


def test_the_launcher_sends_its_credentials_to_the_server(api: PrefectApi, monkeypatch: pytest.MonkeyPatch) -> None:
    api.become("COMPLETED")
    launch(api, [], monkeypatch, PREFECT_API_KEY="pnu_1")
    assert api.headers["Authorization"] == "Bearer pnu_1"
    launch(api, [], monkeypatch, PREFECT_API_AUTH_STRING="admin:pass")
    assert api.headers["Authorization"].startswith("Basic ")


def test_a_pod_that_nobody_deletes_asks_for_its_own_end(
    api: PrefectApi, double: RunPodDouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    api.become("COMPLETED")
    pod = double.rent({"name": "x", "image": "i", "gpu": {"id": "NVIDIA L4"}, "args": "sleep 60"})
    key = pod.environment["RUNPOD_API_KEY"]
    own = {"RUNPOD_API_KEY": key, "RUNPOD_API_BASE_URL": double.url, "RUNPOD_POD_ID": pod.id}
    double.faults.pods_may_end_themselves = False
    launch(api, [], monkeypatch, **own)
    assert pod.ended is None
    double.faults.pods_may_end_themselves = True
    launch(api, [], monkeypatch, **own)
    end = time.monotonic() + 120
    while pod.ended is None and time.monotonic() < end:
        threading.Event().wait(0.05)
    assert pod.ended is not None


def test_a_stopped_container_stops_its_run_and_kills_a_process_that_ignores_it(tmp_path: Path) -> None:
    deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); open('ready', 'w'); time.sleep(600)"
    program = f"""
import sys
from prefect_runpod import launcher
launcher.STOP_S = 0.5
launcher.execute([sys.executable, "-c", {deaf!r}], 600)
"""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    process = subprocess.Popen([sys.executable, "-c", program], cwd=tmp_path, env=environment)
    _wait(lambda: (tmp_path / "ready").exists())
    process.terminate()
    assert process.wait(timeout=120) == 128 + signal.SIGTERM


def test_a_command_returns_its_status_or_is_killed_in_time() -> None:
    assert execute(python("raise SystemExit(4)"), 300) == 4
    assert execute(python("import time; time.sleep(60)"), 0.2) is None


def test_a_run_does_not_get_the_key_of_its_pod(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNPOD_API_KEY", "rpa_pod-0123456789")
    monkeypatch.setenv("PREFECT_API_AUTH_STRING", "me:needed")
    program = "import os; raise SystemExit('RUNPOD_API_KEY' in os.environ or 'PREFECT_API_AUTH_STRING' not in os.environ)"
    assert execute(python(program), 300) == 0


def _wait(ready: Callable[[], bool]) -> None:
    end = time.monotonic() + 120
    while not ready():
        assert time.monotonic() < end
        time.sleep(0.02)
