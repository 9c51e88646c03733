"""The program that runs inside a pod. It executes one flow run once, however often RunPod starts the container.

RunPod restarts a container that exits, whatever its status, and keeps billing it. So this process executes the run only if the
server reports that the run is due and names this very pod. Afterwards it stays alive until the pod is deleted from outside. If
nobody deletes the pod, the process asks RunPod to do so, with the pod's own key. RunPod may refuse, so nothing relies on it.

The code is that of the image. The run imports it from there, and is refused if the worker's code is from another commit.

    python -m prefect_runpod.launcher -- prefect flow-run execute
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from types import FrameType
from typing import Any, NoReturn

import httpx

from prefect_runpod.project import current
from prefect_runpod.settings import USER_AGENT

__all__ = ["Server", "Turn", "command_in", "execute", "main", "other_commit", "turn_of"]

FINAL = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")
POD_KEY = "RUNPOD_API_KEY"  # in a pod's environment, where RunPod puts the key with which the pod may end itself
SHORT_COMMIT = 7  # digits that a commit is shortened to
STOP_S = 8.0  # RunPod's own grace period between SIGTERM and SIGKILL is about ten seconds


@dataclass(frozen=True)
class Turn:
    """The action of this container: `execute`, `wait` or `rest`. If `crash`, the run is also marked crashed, with `why`."""

    action: str
    why: str
    crash: bool = False


def turn_of(run: Mapping[str, Any] | None, pod: str, attempt: int) -> Turn:
    """Decide what this container does, by the server's view of the run. `run` is None if the run does not exist."""
    if run is None:
        return Turn("rest", "the run does not exist")
    state = str(run["state"]["type"])
    if state in FINAL:
        return Turn("rest", f"the run has ended ({state.lower()})")
    if run["infrastructure_pid"] is None:
        return Turn("wait", "the run does not name its pod yet")
    if run["infrastructure_pid"] != pod:
        return Turn("rest", f"the run belongs to the pod {run['infrastructure_pid']}")
    if state == "PENDING":
        return Turn("execute", "it is due") if run["run_count"] <= attempt else Turn("rest", "this pod's attempt is over")
    retries_here = state == "SCHEDULED" and run["empirical_policy"].get("retry_type") == "in_process"
    if state == "RUNNING" or retries_here:
        why = f"RunPod restarted the container of the pod {pod} during the run: it was killed, usually for lack of memory."
        return Turn("rest", why, crash=True)
    return Turn("rest", f"the run is {state.lower()}")


def other_commit(wanted: str | None, own: str | None) -> str | None:
    """Return what differs between the worker's commit and the image's, or None. A trailing `+` marks modified files."""
    if not wanted or not own:
        return None
    short, long = sorted((wanted.rstrip("+"), own.rstrip("+")), key=len)
    if short == long or (len(short) >= SHORT_COMMIT and long.startswith(short)):
        return None
    return f"The image was built from the commit {own}, but the worker's code is {wanted}."


class UnreadableError(Exception):
    """An answer that is not the server's, for example the page of a proxy."""


class Server:
    """The part of the Prefect server that a pod needs."""

    def __init__(self, environment: Mapping[str, str], run: str) -> None:
        headers, auth = {}, None
        if key := environment.get("PREFECT_API_KEY"):
            headers["Authorization"] = f"Bearer {key}"
        elif pair := environment.get("PREFECT_API_AUTH_STRING"):
            user, _, password = pair.partition(":")
            auth = httpx.BasicAuth(user, password)
        self._http = httpx.Client(base_url=environment["PREFECT_API_URL"], headers=headers, auth=auth, timeout=20)
        self._run = run

    def read(self) -> dict[str, Any] | None:
        """Return the run, or None if it does not exist. Raises httpx.HTTPError or UnreadableError."""
        answer = self._http.get(f"/flow_runs/{self._run}")
        if answer.status_code != 404:
            answer.raise_for_status()
        try:
            found = answer.json()
        except (ValueError, RecursionError):
            found = None
        if answer.status_code == 404 and isinstance(found, dict) and "detail" in found:
            return None
        if not _is_run(found):
            raise UnreadableError(f"{answer.status_code}, {len(answer.content)} bytes")
        return dict(found)

    def crash(self, message: str) -> None:
        """Mark the run crashed. If that fails, the worker outside the pod does it."""
        self._set_state("CRASHED", message)

    def fail(self, message: str) -> None:
        """Mark the run failed, so that it is not tried again in another pod."""
        self._set_state("FAILED", message)

    def _set_state(self, kind: str, message: str) -> None:
        _say(message)
        state = {"type": kind, "name": kind.capitalize(), "message": message}
        with suppress(httpx.HTTPError):
            self._http.post(f"/flow_runs/{self._run}/set_state", json={"state": state}).raise_for_status()

    def warn(self, message: str) -> None:
        """Add a line to the run's log. The run goes on without it if that fails."""
        _say(message)
        line = {"name": "prefect.flow_runs.runpod", "level": logging.WARNING, "message": message, "flow_run_id": self._run}
        with suppress(httpx.HTTPError):
            self._http.post("/logs/", json=[{**line, "timestamp": datetime.now(UTC).isoformat()}]).raise_for_status()


def _is_run(found: Any) -> bool:
    """Return whether an answer has what a turn depends on. A proxy, for example, answers with a page while the server restarts."""
    if not isinstance(found, dict) or not {"infrastructure_pid", "run_count", "empirical_policy"} <= found.keys():
        return False
    state, policy = found.get("state"), found["empirical_policy"]
    return isinstance(found["run_count"], int) and isinstance(policy, dict) and isinstance(state, dict) and "type" in state


def execute(command: list[str], seconds: float) -> int | None:
    """Run the command in its own process group. Returns its exit status, or None if it was killed after `seconds`."""
    # The key with which this program ends its own pod is none of the run's business.
    environment = {name: value for name, value in os.environ.items() if name != POD_KEY}
    process = subprocess.Popen(command, env=environment, start_new_session=True)

    def stop(number: int, frame: FrameType | None) -> NoReturn:
        _end(process, signal.SIGTERM, STOP_S)
        sys.exit(128 + number)

    before = signal.signal(signal.SIGTERM, stop)
    try:
        return process.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        _end(process, signal.SIGTERM, STOP_S)
        return None
    finally:
        signal.signal(signal.SIGTERM, before)


def _end(process: subprocess.Popen[bytes], number: signal.Signals, seconds: float) -> None:
    for sent in (number, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, sent)
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=seconds)
            return


def main(arguments: list[str], environment: Mapping[str, str]) -> NoReturn:
    """Execute the run, then wait to be deleted. Never returns, because RunPod restarts a container that exits."""
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    marks = current().marks
    pod, run, attempt = environment["RUNPOD_POD_ID"], environment[f"{marks}RUN"], int(environment[f"{marks}ATTEMPT"])
    ends = time.monotonic() + float(environment[f"{marks}MAX_RUNTIME_S"])
    server = Server(environment, run)
    other = other_commit(environment.get(f"{marks}COMMIT"), current().commit())
    if other is not None and environment.get(f"{marks}ALLOW_OTHER_COMMIT") != "true":
        _refuse(server, pod, attempt, ends, other)
    else:
        _work(server, arguments, pod, attempt, ends, other)
    _say("done; waiting to be deleted")
    time.sleep(float(environment.get(f"{marks}LINGER_S", "120")))
    while True:
        _terminate(environment, pod)
        time.sleep(300)


def _refuse(server: Server, pod: str, attempt: int, ends: float, other: str) -> None:
    """Mark the run failed once it is this pod's turn: other code may train something other than what was asked for."""
    if _read(server, pod, attempt, ends).action == "execute":
        server.fail(
            f"{other} Build the image from the worker's commit, or set {current().settings_prefix}ALLOW_OTHER_COMMIT=true for the "
            "worker."
        )


def _work(server: Server, command: list[str], pod: str, attempt: int, ends: float, other: str | None) -> None:
    """Execute the run once it is this pod's turn. Returns when there is nothing left to do."""
    turn = _read(server, pod, attempt, ends)
    if turn.crash:
        server.crash(turn.why)
    if turn.action != "execute":
        return
    if other is not None:
        server.warn(other)
    try:
        status = execute(command, ends - time.monotonic())
    except OSError as error:
        server.fail(f"The image cannot start {' '.join(command)} ({error.strerror}). Correct the job variable command or image.")
        return
    if status is None:
        server.crash(f"The pod {pod} has lived as long as max_runtime and max_cost allow; its process was killed.")
        return
    left = _read(server, pod, attempt, ends)
    if left.action == "execute" or left.crash:
        server.crash(f"The process of the run ended with status {status} and without setting a final state.")


def _read(server: Server, pod: str, attempt: int, ends: float) -> Turn:
    """Return the turn as soon as it is not `wait`. The server is asked again until it answers and has decided."""
    while True:
        try:
            turn = turn_of(server.read(), pod, attempt)
        except httpx.HTTPStatusError as error:
            passes = error.response.status_code in (408, 429) or error.response.status_code >= 500
            turn = Turn("wait" if passes else "rest", f"the Prefect server answers {error.response.status_code}")
        except httpx.HTTPError as error:
            turn = Turn("wait", f"the Prefect server does not answer ({type(error).__name__})")
        except UnreadableError as error:
            turn = Turn("wait", f"the Prefect server's answer cannot be read ({error})")
        _say(f"{turn.action}: {turn.why}")
        if turn.action != "wait":
            return turn
        if time.monotonic() > ends:
            return Turn("rest", "the pod has reached its maximum lifetime")
        time.sleep(1)


def _terminate(environment: Mapping[str, str], pod: str) -> None:
    """Ask RunPod to terminate this pod, with the key that RunPod gave to the pod."""
    key, base = environment.get(POD_KEY), environment.get("RUNPOD_API_BASE_URL", "https://api.runpod.io")
    if not key:
        return
    with suppress(httpx.HTTPError):
        answer = httpx.post(
            f"{base}/v2/pods/{pod}/action",
            json={"action": "terminate"},
            headers={"Authorization": f"Bearer {key}", "User-Agent": USER_AGENT},
            timeout=20,
        )
        _say(f"asked RunPod to terminate this pod: {answer.status_code}")


def _say(line: str) -> None:
    print(f"launcher: {line}", flush=True)


def command_in(arguments: list[str]) -> list[str]:
    """Return the command in the arguments of this program."""
    return arguments[1:] if arguments[:1] == ["--"] else arguments


if __name__ == "__main__":
    main(command_in(sys.argv[1:]), os.environ)
