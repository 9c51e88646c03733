"""Everything is lost and restored by the steps of the page on backups: the same champion gives the same answers to users that only
Redis knew, and the Prefect server on PostgreSQL knows its runs."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from starlette.testclient import TestClient

from infra.local_stack.services import ROOT
from infra.local_stack.stack import Running, local_stack
from infra.storage.local import LocalStore
from serving.api.app import create_app
from tests.doubles.live_prefect import wait_until
from tests.serving.versions import NAME, draw, promote_version, publish, settings_of

pytestmark = pytest.mark.nightly
PAGE = ROOT / "docs" / "operations" / "backup.md"
USERS = range(9000, 9020)
NOW = int(time.time()) + 3600  # after every event
SERVICES = ["prefect", "redis"]
ATTEMPTS = 20
PASSPHRASE = "correct horse battery staple"


def steps(heading: str) -> list[str]:
    """Return the first commands below a heading of the page."""
    section = PAGE.read_text().split(f"## {heading}\n", 1)[1].split("\n## ", 1)[0]
    block = re.findall(r"(?s)```sh\n(.*?)```", section)[0]
    return [line for line in block.splitlines() if line.strip()]


@dataclass
class Host:
    """A machine with compose's services as processes, and the backups beside it."""

    folder: Path
    backups: Path
    _open: ExitStack = field(default_factory=ExitStack)
    _stack: Running | None = None

    @property
    def stack(self) -> Running:
        assert self._stack is not None, "nothing was started"
        return self._stack

    def start(self, *services: str) -> None:
        if self._stack is None:
            (self.folder / "store").mkdir()
            self._stack = self._open.enter_context(local_stack(self.folder, services, usual_ports=False, tell=lambda line: None))
        self._stack.start(*services)

    def stop(self) -> None:
        self._open.close()
        self._stack = None

    def secret(self, name: str) -> str:
        return (self.folder / "secrets" / name).read_text()

    def do(self, step: str) -> str:
        """Carry out a step of the page with this machine's addresses, and return what it prints."""
        if step.startswith("docker compose"):
            self.start(*(step.split(" up -d")[1].split() or SERVICES))
            return ""
        ports = self.stack.layout.ports
        for name, here in {
            "s3://bucket/production": f"file:{self.folder}/store",
            "s3://backups/recsys": f"file:{self.backups} --passphrase-file {self.backups.parent}/passphrase",
            "@postgres/": f"@127.0.0.1:{ports['postgres']}/",
            "redis://redis:6379": f"redis://127.0.0.1:{ports['redis']}",
            " /data": f" {self.folder}/var/redis",
        }.items():
            step = step.replace(name, here)
        program, *arguments = step.split()
        command = [sys.executable, *arguments] if program == "python" else [sys.executable, "-m", "flows.cli", *arguments]
        if program == "recsys":
            command += ["-c", str(self.settings())]
        for _ in range(ATTEMPTS):
            done = subprocess.run(command, env=self.environment(), capture_output=True, text=True, check=False, cwd=ROOT)
            if "SLOW" not in done.stdout:  # `recsys doctor` on a busy machine, which asks to be run again
                break
        assert done.returncode == 0, f"{step}: {done.stdout}{done.stderr}"
        return done.stdout

    def settings(self) -> Path:
        """Write the settings of the environment, which an operator has in a file."""
        path = self.folder / "environment.yaml"
        settings = {"store": {"url": f"file:{self.folder}/store"}, "model_name": NAME}
        path.write_text(yaml.safe_dump(settings))
        return path

    def environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT", "AWS_", "RECSYS"))}
        kept |= {"PGPASSWORD": self.secret("postgres_password"), "PYTHONPATH": str(ROOT), "NO_PROXY": "127.0.0.1,localhost"}
        if "prefect" in self.stack.processes:
            kept |= {
                "PREFECT_API_URL": f"{self.stack.url('prefect')}/api",
                "PREFECT_API_AUTH_STRING": self.secret("prefect_auth"),
            }
        return kept

    def ask(self, path: str, body: dict[str, Any]) -> Any:
        """Return what the Prefect server answers."""
        user, _, password = self.secret("prefect_auth").partition(":")
        address = f"{self.stack.url('prefect')}/api/{path}"
        return httpx.post(address, json=body, auth=(user, password), timeout=90).raise_for_status().json()

    def redis(self) -> dict[str, str]:
        return {"url": f"redis://127.0.0.1:{self.stack.layout.ports['redis']}/0"}

    def answers(self) -> list[Any]:
        """Return what a server in a folder of its own answers to each user, for one time: scores change as time passes."""
        settings = settings_of(self.folder, redis=self.redis(), work_dir=str(self.folder / f"served-{time.monotonic_ns()}"))
        with TestClient(create_app(settings)) as client:
            ready(client)
            return [client.post("/v1/recommendations", json={"user_id": user, "time": NOW}).json()["items"] for user in USERS]


def ready(client: TestClient) -> None:
    """Wait until a server has loaded the champion."""
    wait_until(lambda: client.get("/readyz").status_code == 200, 300, "the champion")


@pytest.fixture
def place() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="recsys-drill-"))  # the user postgres reaches no folder of pytest
    folder.chmod(0o711)
    yield folder
    shutil.rmtree(folder)


def host(place: Path, name: str) -> Host:
    (place / name).mkdir()
    return Host(place / name, place / "backups")


def test_everything_is_lost_and_restored_by_the_steps_of_the_page_and_the_same_champion_answers_the_same(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (place / "passphrase").write_text(PASSPHRASE)
    old = host(place, "old")
    try:
        old.start(*SERVICES)
        draw(old.folder / "v1", 1)
        store = LocalStore(old.folder / "store")
        version = publish(store, old.folder / "v1").version
        promote_version(store, version)
        flow = old.ask("flows/", {"name": "retrain"})
        run = old.ask("flow_runs/", {"flow_id": flow["id"], "name": "nightly", "state": {"type": "COMPLETED"}})
        with TestClient(create_app(settings_of(old.folder, redis=old.redis()))) as client:
            ready(client)
            for user in USERS:
                events = [{"user_id": user, "item_id": 100 + (user + step) % 20} for step in range(3)]
                client.post("/v1/events", json={"events": events}).raise_for_status()
            time.sleep(1)  # Redis hears of the events after the answer
        before = old.answers()
        assert len({str(items) for items in before}) > 5, "the users are not told apart, so the drill would show nothing"
        for step in steps("Make a backup by hand"):
            old.do(step)
    finally:
        old.stop()
    shutil.rmtree(old.folder)

    new = host(place, "new")
    told = ""
    try:
        started = time.monotonic()
        for step in steps("Restore"):
            told += new.do(step)
        restored = time.monotonic() - started
        assert new.answers() == before
        (found,) = new.ask("flow_runs/filter", {})
        assert (found["id"], found["name"], found["state_type"]) == (run["id"], "nightly", "COMPLETED")
        assert version[:8] in told, "`recsys model list` does not show the champion"
    finally:
        new.stop()
    assert PASSPHRASE.encode() not in b"".join(path.read_bytes() for path in (place / "backups").rglob("*") if path.is_file())
    with capsys.disabled():
        print(f"\nrestored by {len(steps('Restore'))} steps in {restored:.1f} s on {datetime.now(UTC):%Y-%m-%d}")
