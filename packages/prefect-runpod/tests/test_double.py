"""The double of RunPod's API, compared with the published description and with reported behaviour."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from runpod_double.description import schema_errors
from runpod_double.faults import Fault
from runpod_double.runpod_api import ACCOUNT_KEY, NO_MACHINE, RunPodDouble
from runpod_double.runpod_pods import processes_of

BODY = {"name": "x", "image": "i", "gpu": {"id": "NVIDIA L4"}, "args": "sleep 60"}


def ask(double: RunPodDouble, method: str, path: str, key: str = ACCOUNT_KEY, **options: Any) -> httpx.Response:
    return httpx.request(method, f"{double.url}/v2{path}", headers={"Authorization": f"Bearer {key}"}, timeout=120, **options)


def wait(ready: Callable[[], Any], seconds: float = 120) -> Any:
    end = time.monotonic() + seconds
    while not (found := ready()):
        assert time.monotonic() < end, "what was waited for did not happen"
        time.sleep(0.05)
    return found


def shell(script: str, **more: Any) -> dict[str, Any]:
    return {**BODY, "args": json.dumps({"entrypoint": ["/bin/sh"], "cmd": ["-c", script]}), **more}


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        ({**BODY, "interruptible": True}, 422, "additional properties 'interruptible' not allowed"),
        ({**BODY, "cmd": ["x"]}, 422, "additional properties 'cmd' not allowed"),
        ({**BODY, "disk": 0}, 422, "less than the minimum"),
        ({key: value for key, value in BODY.items() if key != "name"}, 422, "'name' is a required property"),
        ({**BODY, "gpu": {"id": "NVIDIA L4", "minCudaVersion": "twelve"}}, 422, "does not match"),
        ({key: value for key, value in BODY.items() if key != "gpu"}, 400, "exactly one of gpu or cpu"),
        ({**BODY, "gpu": {"id": "no such"}}, 400, "unknown gpu type"),
        ({**BODY, "env": {"X": "y" * 103_000}}, 413, "too large"),
    ],
)
def test_a_create_is_refused_as_the_description_says(double: RunPodDouble, body: dict[str, Any], status: int, said: str) -> None:
    answer = ask(double, "POST", "/pods", json=body)
    assert answer.status_code == status and answer.headers["content-type"] == "application/problem+json"
    assert not schema_errors("ErrorResponse", answer.json())
    assert said in str(answer.json().get("errors", [])) + answer.json()["detail"]
    assert not double.pods


def test_its_answers_satisfy_the_description_in_every_status_of_a_pod(double: RunPodDouble) -> None:
    double.now = lambda: 1_800_000_000.0  # otherwise a second may pass before the uptime is read
    double.faults.start_s = 3600
    made = ask(double, "POST", "/pods", json=BODY)
    assert made.status_code == 201 and made.json()["status"] == "PROVISIONING" and not schema_errors("Pod", made.json())
    path = f"/pods/{made.json()['id']}"
    double.pods[made.json()["id"]].start_s = 0  # the image has been pulled
    running = wait(lambda: (found := ask(double, "GET", path).json())["status"] == "RUNNING" and found)
    assert running["runtime"]["uptime"] == 0 and running["env"] == {} and running["cost"] == 0.44
    assert not schema_errors("ListPodsResponse", ask(double, "GET", "/pods").json())
    assert ask(double, "POST", f"{path}/action", json={"action": "start"}).status_code == 409
    stopped = ask(double, "POST", f"{path}/action", json={"action": "stop"}).json()
    assert stopped["status"] == "EXITED" and stopped["cost"] == 0 and not schema_errors("Pod", stopped)
    assert ask(double, "POST", f"{path}/action", json={"action": "explode"}).status_code == 422
    assert ask(double, "POST", f"{path}/action", json={"action": "start"}).status_code == 200
    assert ask(double, "DELETE", path).status_code == 204 and ask(double, "GET", path).status_code == 404
    assert ask(double, "DELETE", path).status_code == 404
    catalogue = ask(double, "GET", "/catalog/gpus", params={"include": "AVAILABILITY", "product": "POD"}).json()
    assert not schema_errors("ListGpuTypesResponse", catalogue)
    assert ask(double, "GET", "/catalog/gpus", params={"include": "AVAILABILITY"}).status_code == 400


def test_wrong_values_and_missing_fields_violate_the_schema() -> None:
    pod = {"id": "x", "status": "SLEEPING"}
    errors = schema_errors("Pod", pod)
    assert any("'SLEEPING' is not one of" in error for error in errors) and any(
        "'cost' is a required" in error for error in errors
    )


def test_a_container_that_exits_is_started_again_and_its_pod_runs_on(double: RunPodDouble) -> None:
    pod = double.rent(shell("echo hello; exit 3"))
    wait(lambda: pod.starts >= 3)
    shown = ask(double, "GET", f"/pods/{pod.id}").json()
    assert shown["status"] == "RUNNING" and shown["cost"] == 0.44 and "3" not in str(shown.get("exitCode", ""))
    assert [line.line for line in pod.lines if line.source == "system"][:2] == ["start container"] * 2


def test_a_deletion_ends_the_whole_tree_whatever_sessions_it_has_made(double: RunPodDouble) -> None:
    pod = double.rent(shell("setsid sleep 60 & trap '' TERM; sleep 60; sleep 60"))
    wait(lambda: len(processes_of(pod.id)) >= 3)
    assert ask(double, "DELETE", f"/pods/{pod.id}").status_code == 204
    assert not processes_of(pod.id)


def test_a_container_sees_its_own_environment_and_not_this_machines(
    double: RunPodDouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_OF_THE_HOST", "1")
    pod = double.rent(shell("env; echo that is all; sleep 60", env={"GIVEN": "2", "RUNPOD_POD_ID": "mine"}))
    wait(lambda: any(line.line == "that is all" for line in pod.lines))
    text = "\n".join(line.line for line in pod.lines)
    assert "GIVEN=2" in text and f"RUNPOD_POD_ID={pod.id}" in text and "RUNPOD_GPU_COUNT=1" in text
    assert "SECRET_OF_THE_HOST" not in text and ACCOUNT_KEY not in text


def test_a_pods_own_key_may_end_only_that_pod(double: RunPodDouble) -> None:
    pod, other = double.rent(BODY), double.rent(BODY)
    key = pod.environment["RUNPOD_API_KEY"]
    assert ask(double, "GET", "/pods", key=key).status_code == 403
    assert ask(double, "POST", f"/pods/{other.id}/action", key=key, json={"action": "terminate"}).status_code == 403
    double.faults.pods_may_end_themselves = False
    assert ask(double, "POST", f"/pods/{pod.id}/action", key=key, json={"action": "terminate"}).status_code == 403
    double.faults.pods_may_end_themselves = True
    assert ask(double, "POST", f"/pods/{pod.id}/action", key=key, json={"action": "terminate"}).status_code == 204
    wait(lambda: pod.ended is not None)
    assert other.ended is None
    assert ask(double, "GET", "/pods", key="rpa_unknown").status_code == 401
    assert httpx.get(f"{double.url}/v2/pods").json()["detail"] == "missing bearer token"
    urllib = {"Authorization": f"Bearer {ACCOUNT_KEY}", "User-Agent": "Python-urllib/3.11"}
    assert httpx.get(f"{double.url}/v2/pods", headers=urllib).status_code == 403


def test_logs_are_streamed_from_the_requested_line(double: RunPodDouble) -> None:
    pod = double.rent(shell("for i in 1 2 3 4; do echo line $i; done; sleep 60"))
    wait(lambda: any(line.line == "line 4" for line in pod.lines))

    def read(most: int, headers: dict[str, str] | None = None, **query: str) -> list[str]:
        found: list[str] = []
        own = {"Authorization": f"Bearer {ACCOUNT_KEY}", **(headers or {})}
        with httpx.stream("GET", f"{double.url}/v2/pods/{pod.id}/logs", params=query, headers=own, timeout=120) as answer:
            assert answer.headers["content-type"] == "text/event-stream"
            for line in answer.iter_lines():
                if line.startswith("data:"):
                    found.append(json.loads(line[5:])["line"])
                if len(found) == most:
                    return found
        return found

    assert read(2, tail="2") == ["line 3", "line 4"]
    assert read(1, source="system") == ["start container"]
    second = next(line for line in pod.lines if line.line == "line 2")
    assert read(2, {"Last-Event-ID": second.id}) == ["line 3", "line 4"]


def test_faults_are_answered_as_they_are_set(double: RunPodDouble) -> None:
    double.faults.no_capacity = {"NVIDIA L4"}
    assert ask(double, "POST", "/pods", json=BODY).json()["detail"] == NO_MACHINE
    double.faults.no_capacity, double.faults.forbidden = set(), {"NVIDIA L4"}
    assert ask(double, "POST", "/pods", json=BODY).status_code == 403
    double.faults.forbidden = set()
    double.faults.answers = [Fault("GET", "/v2/pods", 429, "slow down", retry_after_s=7)]
    assert ask(double, "GET", "/pods").headers["retry-after"] == "7" and ask(double, "GET", "/pods").status_code == 200
    double.faults.lost_creates = 1
    with pytest.raises(httpx.TransportError):
        ask(double, "POST", "/pods", json=BODY)
    (pod,) = double.alive
    double.faults.hidden = {pod.id: 1}
    assert ask(double, "GET", "/pods").json()["pods"] == [] and len(ask(double, "GET", "/pods").json()["pods"]) == 1
    double.lose_host(pod.id)
    assert ask(double, "GET", f"/pods/{pod.id}").status_code == 404
    double.go_down(30)
    with pytest.raises(httpx.TransportError):
        ask(double, "GET", "/pods")


def test_the_cost_depends_only_on_the_clock_and_the_price(double: RunPodDouble) -> None:
    clock = [1_800_000_000.0]
    double.now = lambda: clock[0]
    pod = double.rent({**BODY, "gpu": {"id": "NVIDIA A40", "count": 2}})
    clock[0] += 1800
    pod.end(kill=True)
    clock[0] += 1800
    assert pod.usd == pytest.approx(0.8)


def test_a_rate_limit_is_enforced_and_reported(double: RunPodDouble) -> None:
    double.policy = (("minute", 2, 60),)
    answers = [ask(double, "GET", "/pods") for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert answers[0].headers["ratelimit-policy"] == '"minute";q=2;w=60' and answers[1].headers["ratelimit"].startswith(
        '"minute";r=0;t='
    )
    assert 0 < int(answers[2].headers["retry-after"]) <= 60
