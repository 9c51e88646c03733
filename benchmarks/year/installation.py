"""The installation: the services of compose as processes with a clock of their own, what is asked of them, and how they are killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, LiteralString, TypeVar

import httpx
import psycopg
import yaml

from benchmarks.year.clock import Clock
from benchmarks.year.forks import CLIENT
from configs.settings import StoreSettings
from infra.lifeline import groups_end_with_this_process
from infra.local_stack.services import ROOT
from infra.local_stack.stack import Running, local_stack
from infra.storage import Store, open_store

__all__ = ["MODEL", "ZONE", "Installation", "installation", "wait_until"]

MODEL = "movie-ranker"
ZONE = "Europe/Berlin"
DATASET = "year"  # of the dataset
PATIENCE_S, LOOK_S = 900.0, 0.25  # for anything that is waited for, and between two looks
LOOPS = {  # of the server and the worker, by the real clock, so that days of seconds have as many of them as real days need
    "PREFECT_SERVER_SERVICES_SCHEDULER_LOOP_SECONDS": "4",
    "PREFECT_SERVER_SERVICES_DB_VACUUM_LOOP_SECONDS": "20",
    "PREFECT_SERVER_SERVICES_DB_VACUUM_ORPHAN_CLEANUP_LOOP_SECONDS": "60",
    "PREFECT_WORKER_QUERY_SECONDS": "0.3",
    "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
    "PREFECT_LOGGING_TO_API_BATCH_INTERVAL": "1",
}
SETTINGS: dict[str, Any] = {
    "environment": "production",
    "timezone": ZONE,
    "crons": {"housekeeping/housekeeping": "30 2 * * *"},
    "alerts": {"heartbeat_s": 30},
    "retraining": {
        "model_name": MODEL,
        "data": {"dataset": DATASET, "timestamp_format": "s"},
        "landing": {"base": "none"},
        "challenger": "markov",
        "baselines": ["popularity"],
        "models": {"markov": {"smoothing": 1.0}},
        "training": {"refit": True},
        "promotion": {"approval": "automatic", "rule": "non-inferior", "margin": 0.05, "sample_requests": 4},
        "drift": {"sample_rows": 5000},
        "monitoring": {"clock": "wall", "live_requests": 200, "evidently": False},
        "report": {"evidently": False},
        "tracking": {"mode": "off"},
        "when": {"policy": {"every": "week", "decay": 0.15}, "max_age_s": 30 * 86_400},
        "retention": {"automatic": True, "keep_days": 90},
    },
}
T = TypeVar("T")


def wait_until(found: Callable[[], T], what: str, patience_s: float = PATIENCE_S) -> T:
    """Return what `found` returns as soon as that is true.

    Raises:
        RuntimeError: It does not come.
    """
    end = time.monotonic() + patience_s
    while time.monotonic() < end:
        if result := found():
            return result
        time.sleep(LOOK_S)
    raise RuntimeError(f"{what} did not come within {patience_s:.0f} s")


@dataclass
class Installation:
    """A running installation."""

    stack: Running
    clock: Clock
    zone: Path
    _ids: dict[str, str] = field(default_factory=dict)
    _forking: int = 0
    _client: httpx.Client | None = None

    @property
    def folder(self) -> Path:
        return self.stack.layout.folder

    @property
    def store_folder(self) -> Path:
        return self.folder / "store"

    def store(self) -> Store:
        return open_store(StoreSettings(url=self.stack.layout.store))

    @property
    def work_folder(self) -> Path:
        return self.folder / "var" / "work"

    @property
    def retraining(self) -> dict[str, Any]:
        """The settings of the installation's runs, beyond those that the shipped configuration gives."""
        return merge(SETTINGS["retraining"], {"data": {"landing": str(self.zone)}})

    @property
    def environment(self) -> dict[str, str]:
        """The variables of an administrator's shell."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT", "AWS_", "RUNPOD"))}
        return kept | {
            "PREFECT_API_URL": f"{self.stack.url('prefect')}/api",
            "PREFECT_API_AUTH_STRING": self._password,
            "PREFECT_HOME": str(self.folder / "admin"),
            "NO_PROXY": "127.0.0.1,localhost",
            "PYTHONPATH": str(ROOT),
            **self.clock.environment,
        }

    @property
    def _password(self) -> str:
        return (self.folder / "secrets" / "prefect_auth").read_text(encoding="utf-8").strip()

    def ask(self, path: str, method: str = "POST", *, patient: bool = True, **body: Any) -> Any:
        """Return what the server's API answers. With `patient`, ask again while it, or its database, is away."""
        if self._client is None:
            user, _, password = self._password.partition(":")
            self._client = httpx.Client(base_url=f"{self.stack.url('prefect')}/api/", auth=(user, password), timeout=60)
        end = time.monotonic() + (PATIENCE_S if patient else 0)
        while True:
            try:
                answer = self._client.request(method, path, json=body if method != "GET" else None)
                answer.raise_for_status()
            except httpx.HTTPError:
                if time.monotonic() > end:
                    raise
                time.sleep(LOOK_S)
            else:
                return answer.json() if answer.content else None

    def answers(self) -> bool:
        """Return whether the server and its database answer."""
        try:
            self.ask("flow_runs/filter", patient=False, limit=1)
        except httpx.HTTPError:
            return False
        return True

    def runs(self, since: float, *states: str) -> list[dict[str, Any]]:
        """Return the runs of deployments that were expected since a moment (UTC seconds), all or those in some types of state."""
        wanted: dict[str, Any] = {"expected_start_time": {"after_": datetime.fromtimestamp(since, UTC).isoformat()}}
        if states:
            wanted["state"] = {"type": {"any_": list(states)}}
        found: list[dict[str, Any]] = []
        while True:
            page = self.ask("flow_runs/filter", flow_runs=wanted, limit=200, offset=len(found), sort="EXPECTED_START_TIME_ASC")
            found += [run for run in page if run["deployment_id"]]
            if len(page) < 200:
                return found

    def next_scheduled(self) -> float:
        """Return when the next run is scheduled, in UTC seconds."""
        found = self.ask(
            "flow_runs/filter", flow_runs={"state": {"type": {"any_": ["SCHEDULED"]}}}, limit=1, sort="EXPECTED_START_TIME_ASC"
        )
        return datetime.fromisoformat(found[0]["expected_start_time"]).timestamp() if found else float("inf")

    def id_of(self, deployment: str) -> str:
        """Return the id of a deployment."""
        if deployment not in self._ids:
            self._ids[deployment] = self.ask(f"deployments/name/{deployment}", "GET")["id"]
        return self._ids[deployment]

    def start(self, deployment: str) -> str:
        """Start a run now, and return its id."""
        return str(self.ask(f"deployments/{self.id_of(deployment)}/create_flow_run")["id"])

    def state_of(self, run: str) -> dict[str, Any]:
        found: dict[str, Any] = self.ask(f"flow_runs/{run}", "GET")["state"]
        return found

    def recsys(self, *arguments: str) -> str:
        """Run a command of `recsys` by the installation's clock.

        Raises:
            RuntimeError: It failed.
        """
        command = [sys.executable, "-m", "flows.cli", *arguments]
        done = subprocess.run(command, env=self.environment, cwd=self.folder, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"recsys {' '.join(arguments)} failed:\n{done.stderr[-3000:]}")
        return done.stdout

    def set_up(self) -> None:
        """Set up the server as the shipped configuration says, with small data and a cheap model."""
        own = self.folder / "year.yaml"
        own.write_text(yaml.safe_dump({**SETTINGS, "retraining": self.retraining}), encoding="utf-8")
        shipped = self.folder / "files" / "setup" / "production.yaml"
        self.recsys("setup", "-c", str(shipped), "-c", str(own))
        rollout = self.id_of("rollout/rollout")  # rollouts are off, so its hourly runs would find nothing
        for schedule in self.ask(f"deployments/{rollout}", "GET")["schedules"]:
            self.ask(f"deployments/{rollout}/schedules/{schedule['id']}", "PATCH", active=False)

    @contextmanager
    def quick_starts(self) -> Iterator[None]:
        """Let the worker's runs start as forks (see forks.py), instead of as new interpreters."""
        place, client = self.folder / "forks.socket", self.folder / "client.py"
        client.write_text(CLIENT.format(python=sys.executable, socket=place), encoding="utf-8")
        client.chmod(0o755)
        worker = Program.of(self.stack.processes["worker"].pid)
        with self.stack.log("forks").open("ab") as log, groups_end_with_this_process() as watch:
            forking = subprocess.Popen(
                [sys.executable, "-m", "benchmarks.year.forks", str(place), str(client)],
                env=worker.environment,
                cwd=ROOT,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
            self._forking = forking.pid
            watch(forking.pid)
            try:
                wait_until(place.exists, "the process that forks runs")
                pool = self.ask("work_pools/recsys", "GET")
                template = pool["base_job_template"]
                template["variables"]["properties"]["command"]["default"] = f"{client} -m prefect.engine"
                self.ask("work_pools/recsys", "PATCH", base_job_template=template)
                yield
            finally:
                forking.kill()
                forking.wait()

    def sizes(self) -> dict[str, float]:
        """Return the sizes of the database and the store in megabytes, and how much is in them."""
        password = (self.folder / "secrets" / "postgres_password").read_text(encoding="utf-8")
        port = self.stack.layout.ports["postgres"]
        with psycopg.connect(host="127.0.0.1", port=port, user="prefect", password=password, dbname="prefect") as database:

            def value(query: LiteralString) -> int:
                row = database.execute(query).fetchone()
                assert row is not None
                return int(row[0])

            found = {
                "database_mb": round(value("select pg_database_size('prefect')") / 1e6, 1),
                "runs": value("select count(*) from flow_run"),
                "events": value("select count(*) from events"),
                "logs": value("select count(*) from log"),
            }
        files = [path.stat() for path in self.store_folder.rglob("*") if path.is_file()]
        local = [path.stat() for path in self.work_folder.rglob("*") if path.is_file()]
        return {
            **found,
            "store_mb": round(sum(each.st_size for each in files) / 1e6, 1),
            "objects": len(files),
            "work_mb": round(sum(each.st_size for each in local) / 1e6, 1),
        }

    # What can happen to it

    def kill_run(self) -> None:
        """Kill the process of a run, if there is one."""
        for each in Path(f"/proc/{self._forking}/task/{self._forking}/children").read_text(encoding="utf-8").split()[:1]:
            os.kill(int(each), signal.SIGKILL)

    def kill(self, service: str, away_s: float = 0.0) -> None:
        """Kill a service with everything that it has started, as a machine that loses power does, and start it again."""
        process = self.stack.processes[service]
        started = Program.of(process.pid)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        wait_until(lambda: not _is_alive(process.pid), f"the end of {service}")  # PostgreSQL runs as a child of what was started
        if away_s:
            time.sleep(away_s)
        with self.stack.log(service).open("ab") as log:
            while not self._stays(service, started, log):
                pass  # what the killed one left, such as PostgreSQL's shared memory, may still be in use

    def _stays(self, service: str, program: Program, log: IO[bytes]) -> bool:
        """Start a service, as a supervisor does, and return whether it still runs after three seconds."""
        process = subprocess.Popen(
            program.command, env=program.environment, cwd=program.folder, stdout=log, stderr=log, start_new_session=True
        )
        self.stack.processes[service] = process
        try:
            process.wait(3)
        except subprocess.TimeoutExpired:
            return True
        return False


@dataclass(frozen=True)
class Program:
    """How a process was started."""

    command: list[str]
    environment: dict[str, str]
    folder: str

    @classmethod
    def of(cls, pid: int) -> Program:
        def fields(name: str) -> list[str]:
            return Path(f"/proc/{pid}/{name}").read_bytes().decode().split("\0")[:-1]

        environment = dict(each.split("=", 1) for each in fields("environ") if "=" in each)
        return cls(fields("cmdline"), environment, os.readlink(f"/proc/{pid}/cwd"))


def _is_alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def merge(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """Return nested settings with those of `other` added."""
    found = dict(one)
    for key, value in other.items():
        found[key] = merge(found[key], value) if isinstance(value, Mapping) and key in found else value
    return found


@contextmanager
def installation(folder: Path, start: float, tell: Callable[[str], None]) -> Iterator[Installation]:
    """Run an installation in `folder` whose time begins at `start` (UTC seconds)."""
    folder.mkdir(parents=True, exist_ok=True)
    zone = folder / "landing"
    zone.mkdir(exist_ok=True)
    clock = Clock(folder / "clock", start)
    with local_stack(folder, ["worker"], usual_ports=False, environment=clock.environment | LOOPS, tell=tell) as stack:
        found = Installation(stack, clock, zone)
        with found.quick_starts():
            yield found
