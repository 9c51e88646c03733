"""A Prefect server on PostgreSQL, the double of RunPod's API, and workers of type runpod, as processes.

On SQLite and a slow machine, the server answers 503 to some writes of many runs, and Prefect's client repeats each for a minute.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from infra.local_stack.stack import local_stack
from runpod_double.runpod_api import ACCOUNT_KEY, IMAGE, RunPodDouble
from tests.doubles.live_prefect import client
from tests.doubles.runpod.other_root import OtherRoot
from tests.ports import reserved_port

ROOT = Path(__file__).parents[3]
PACKAGE = ROOT / "packages" / "prefect-runpod"
PREFECT = str(Path(sys.executable).with_name("prefect"))
FINAL = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")
PRICES = {"NVIDIA L4": 0.44, "NVIDIA A40": 0.8, "NVIDIA H100 PCIe": 3.0}
QUICK = {
    "RECSYS_RUNPOD_LOOK_EVERY_S": "0.5",
    "RECSYS_RUNPOD_TIMEOUT_S": "60",
    "RECSYS_RUNPOD_BACKOFF_S": "0.2",
    "RECSYS_RUNPOD_MAX_BACKOFF_S": "1",
    "RECSYS_RUNPOD_LOST_AFTER_S": "1",
    "RECSYS_RUNPOD_CANCEL_GRACE_S": "3",
    "RECSYS_RUNPOD_RESTART_SLACK_S": "5",
    "RECSYS_RUNPOD_UPTIME_SLACK_S": "1",
    "PREFECT_WORKER_QUERY_SECONDS": "1",
}
WIDE = (("minute", 6000, 60), ("hour", 300_000, 3600))
"""Limits that a test with two looks a second does not reach."""


def wait_until(ready: Callable[[], Any], seconds: float, what: str = "it") -> Any:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = ready()
        if found:
            return found
        time.sleep(0.3)
    raise AssertionError(f"{what} did not come in {seconds} s")


class World:
    """A work pool `gpu`, and others that a test makes.

    Each has the deployments `job` (tests/doubles/runpod/pod_job.py) and `flow` (rented_flow.py).
    """

    def __init__(self, folder: Path, double: RunPodDouble, database: dict[str, str]) -> None:
        self.folder, self.double = folder, double
        self.port = reserved_port()
        self.api = f"http://127.0.0.1:{self.port}/api"
        self.record = folder / "executions.txt"
        self.record.touch()
        self._server: subprocess.Popen[bytes] | None = None
        self._workers: list[subprocess.Popen[bytes]] = []
        self._deployments: dict[tuple[str, str], str] = {}
        # An installed product declares this entry point, by which `prefect worker start --type runpod` finds the worker.
        declared = folder / "installed" / "recsys_of_the_test-1.0.dist-info"
        declared.mkdir(parents=True)
        (declared / "METADATA").write_text("Metadata-Version: 2.1\nName: recsys-of-the-test\nVersion: 1.0\n")
        (declared / "entry_points.txt").write_text(
            "[prefect.collections]\nprefect_runpod = prefect_runpod.worker\nrecsys_runpod = infra.runpod\n"
        )
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT", "RUNPOD"))} | {
            "PREFECT_HOME": str(folder / "home"),
            "PREFECT_API_URL": self.api,
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "NO_PROXY": "127.0.0.1,localhost",
            "PYTHONPATH": f"{ROOT}:{PACKAGE}:{declared.parent}",
            "RUNPOD_API_BASE_URL": double.url,
            "RUNPOD_API_KEY": ACCOUNT_KEY,
            **database,
            **QUICK,
        }

    def start_server(self) -> None:
        log = (self.folder / "server.log").open("ab")
        command = [PREFECT, "server", "start", "--host", "127.0.0.1", "--port", str(self.port)]
        self._server = subprocess.Popen(command, env=self.environment, stdout=log, stderr=log, cwd=ROOT)
        wait_until(self._is_up, 600, "the Prefect server")

    def stop_server(self) -> None:
        assert self._server is not None
        self._server.send_signal(signal.SIGTERM)
        self._server.wait(timeout=240)

    def _is_up(self) -> bool:
        try:
            return client().get(f"{self.api}/health", timeout=30).status_code == 200
        except httpx.HTTPError:
            return False

    def set_up(self, pool: str = "gpu") -> None:
        made = subprocess.run(
            [PREFECT, "work-pool", "create", pool, "--type", "runpod"],
            env=self.environment,
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=1800,
            check=False,
        )
        assert made.returncode == 0, made.stdout + made.stderr
        environment = {"RECORD": str(self.record)}
        variables = {"image": IMAGE, "gpu_types": list(PRICES), "env": environment}
        self.deploy("job", pool, "none", {**variables, "command": "python -m tests.doubles.runpod.pod_job"}, pool)
        self.deploy("flow", pool, "tests/doubles/runpod/rented_flow.py:rented", variables, pool)

    def deploy(self, flow: str, name: str, entrypoint: str, variables: dict[str, Any], pool: str = "gpu") -> None:
        """Create the deployment flow/name on the pool."""
        body = {"name": name, "work_pool_name": pool, "enforce_parameter_schema": False}
        # As in prefect.yaml. With a path alone, each run would copy the whole checkout, including the virtual environment.
        body |= {"pull_steps": [{"prefect.deployments.steps.set_working_directory": {"directory": str(ROOT)}}]}
        body |= {"flow_id": self.post("flows/", name=flow)["id"], "entrypoint": entrypoint, "job_variables": variables}
        self._deployments[pool, flow] = self.post("deployments/", **body)["id"]

    def start_worker(self, name: str = "first", pool: str = "gpu", **environment: str) -> subprocess.Popen[bytes]:
        log = (self.folder / "worker.log").open("ab")
        process = subprocess.Popen(
            [PREFECT, "worker", "start", "--pool", pool, "--type", "runpod", "--name", name],
            env={**self.environment, **environment},
            stdout=log,
            stderr=log,
            cwd=ROOT,
        )
        self._workers.append(process)
        return process

    def workers_alive(self) -> list[subprocess.Popen[bytes]]:
        return [worker for worker in self._workers if worker.poll() is None]

    def kill_workers(self) -> None:
        for worker in self._workers:
            worker.kill()
            worker.wait(timeout=300)
        self._workers.clear()

    def close(self) -> None:
        self.kill_workers()
        if self._server is not None and self._server.poll() is None:
            self.stop_server()

    def post(self, route: str, /, **body: Any) -> Any:
        return self.ask("POST", route, json=body).json()

    def ask(self, method: str, route: str, **options: Any) -> httpx.Response:
        """Return the answer. If the database is locked, the server answers 500, 503 or nothing. All requests here may be repeated."""
        for attempt in range(20):
            try:
                answer = client().request(method, f"{self.api}/{route}", timeout=30, **options)
            except httpx.ReadTimeout:
                if attempt >= 3:
                    raise
                continue
            if answer.status_code < 500:
                break
            time.sleep(0.5)
        return answer.raise_for_status()

    def submit(
        self, deployment: str = "job", variables: dict[str, Any] | None = None, pool: str = "gpu", **parameters: Any
    ) -> str:
        body = {"parameters": parameters, "state": {"type": "SCHEDULED"}, "enforce_parameter_schema": False}
        body |= {"idempotency_key": secrets.token_hex(8)}
        made = self.post(
            f"deployments/{self._deployments[pool, deployment]}/create_flow_run", job_variables=variables or {}, **body
        )
        return str(made["id"])

    def run(self, run: str) -> dict[str, Any]:
        found: dict[str, Any] = self.ask("GET", f"flow_runs/{run}").json()
        return found

    def state(self, run: str) -> str:
        return str(self.run(run)["state_type"])

    def wait_for(self, run: str, *states: str, seconds: float = 240) -> dict[str, Any]:
        try:
            return wait_until(lambda: self.state(run) in states and self.run(run), seconds, f"{states}")  # type: ignore[no-any-return]
        except AssertionError as error:
            said = [line.line for pod in self.pods_of(run) for line in pod.lines[-20:]]
            raise AssertionError(f"{error}: {self.run(run)['state']}\n{said}\n{self.log()[-3000:]}") from error

    def cancel(self, run: str) -> None:
        self.post(f"flow_runs/{run}/set_state", state={"type": "CANCELLING", "name": "Cancelling"})

    def forget(self, run: str) -> None:
        self.ask("DELETE", f"flow_runs/{run}")

    def executions(self, run: str) -> int:
        """Return how often the run's work was begun."""
        return self.record.read_text().count(run)

    def costs(self, run: str) -> list[dict[str, Any]]:
        """Return one account for each pod, as the product reads them. Two workers may have opened one each."""
        where = {"flow_run_id": {"any_": [run]}, "key": {"like_": "gpu-cost-%"}}
        rows = [row for artifact in self.post("artifacts/filter", artifacts=where) for row in artifact["data"]]
        latest = {row["pod"]: row for row in sorted(rows, key=lambda row: (row["closed"], row["seconds"]))}
        return list(latest.values())

    def log(self) -> str:
        return (self.folder / "worker.log").read_text()

    def pods_of(self, run: str) -> list[Any]:
        return [pod for pod in self.double.pods.values() if run in pod.body["name"]]

    def settle(self, run: str, state: str, *, executions: int, pods: int = 1, seconds: float = 240) -> dict[str, Any]:
        """Return the run once it has ended, and check that it ended as it should.

        Its state is `state`, it has no pod left, its work was begun `executions` times, and what RunPod would bill is accounted for.
        """
        ended = self.wait_for(run, *FINAL, seconds=seconds)
        assert ended["state_type"] == state, (ended["state"], self.log()[-3000:])
        own, patience_s = self.pods_of(run), max(seconds, 180)
        wait_until(lambda: all(pod.ended is not None for pod in own), patience_s, "the end of the pods")
        assert len(own) == pods and self.executions(run) == executions
        billed = {pod.id: pod for pod in own}

        def counted() -> bool:
            """A worker that deletes a pod may count a moment longer than one that finds it gone, and on a busy machine seconds longer."""
            costs = {cost["pod"]: cost for cost in self.costs(run) if cost["closed"]}
            return costs.keys() == billed.keys() and all(
                cost["usd_per_hour"] == billed[pod].price and abs(cost["usd"] - billed[pod].usd) <= billed[pod].price * 30 / 3600
                for pod, cost in costs.items()
            )

        try:
            wait_until(counted, patience_s, "the account")
        except AssertionError as error:
            raise AssertionError(f"{error}: {self.costs(run)} for {[(pod.id, pod.price, pod.usd) for pod in own]}") from error
        assert not self.double.violations
        return ended


@contextmanager
def a_world(folder: Path, root: OtherRoot | None = None, **options: Any) -> Iterator[World]:
    """Run a Prefect server and the double. Its pods share this machine's files or, with `root`, have only those of that image."""
    image = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "PYTHONPATH": f"{ROOT}:{PACKAGE}", "OMP_NUM_THREADS": "1"}
    folder.mkdir(parents=True, exist_ok=True)
    image = image if root is None else root.environment
    with RunPodDouble(folder, image, prices=PRICES, **{"policy": WIDE, **options}) as double, _database() as database:
        double.root = root
        world = World(folder, double, database)
        try:
            world.start_server()
            world.set_up()
            yield world
        finally:
            world.close()


@contextmanager
def _database() -> Iterator[dict[str, str]]:
    """Run PostgreSQL as infra/compose.yaml does, and yield the variables that name it for a Prefect server."""
    folder = Path(tempfile.mkdtemp(prefix="recsys-world-"))  # PostgreSQL, which runs as another user, can enter this folder
    try:
        with local_stack(folder, ["postgres"], usual_ports=False, tell=lambda line: None) as stack:
            password = (stack.layout.folder / "secrets" / "postgres_password").read_text(encoding="utf-8").strip()
            server = {"DRIVER": "postgresql+asyncpg", "HOST": "127.0.0.1", "PORT": str(stack.layout.ports["postgres"])}
            server |= {"NAME": "prefect", "USER": "prefect", "PASSWORD": password}
            yield {f"PREFECT_SERVER_DATABASE_{name}": value for name, value in server.items()}
    finally:
        shutil.rmtree(folder)
