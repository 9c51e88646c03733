"""The images of the API, started by their own entry point as compose starts it: they answer, are healthy, may write nowhere but in their
volume and /tmp, and end in order."""

from __future__ import annotations

import json
import secrets
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from infra.images.running import Container, Unpacked, run_command
from infra.storage.local import LocalStore
from tests.doubles.live_prefect import wait_until
from tests.doubles.redis_server import RedisServer, redis_server
from tests.ports import reserved_port
from tests.serving.versions import NAME, draw, promote_version, publish

pytestmark = pytest.mark.full
VOLUME = "/var/lib/recsys"
PATIENCE_S = 900
QUESTION = {"history": [{"item_id": 101}, {"item_id": 105}], "k": 5}
FACTS = """
import json, os
def refused(path):
    try:
        open(path, "w").close()
    except OSError as error:
        return error.strerror
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(json.dumps({
    "user": os.getuid(), "first": open("/proc/1/cmdline").read().split(chr(0))[0], "capabilities": int(status["CapBnd"], 16),
    "code": refused("/app/x"), "etc": refused("/etc/x"), "tmp": refused("/tmp/x"), "volume": refused("/var/lib/recsys/x"),
}))
"""


@dataclass
class Run:
    """A running container."""

    name: str
    port: int
    image: Unpacked
    process: subprocess.Popen[bytes]
    log: Path

    def inside(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command in the container, with its variables."""
        return subprocess.run(["runc", "exec", self.name, *command], capture_output=True, text=True, check=False)

    def healthy(self) -> bool:
        """Return what the image's own health check says."""
        assert self.process.poll() is None, self.log.read_text()[-3000:]
        command = [part.replace(":8000/", f":{self.port}/") for part in self.image.health]
        return self.inside(*command).returncode == 0

    def check_that_it_may_write_only_to_its_volume(self) -> None:
        facts = json.loads(self.inside("python", "-c", FACTS).stdout)
        assert facts["user"] == 10001 and facts["first"] == "/usr/bin/tini" and facts["capabilities"] == 0
        assert (facts["code"], facts["etc"]) == ("Read-only file system",) * 2
        assert (facts["tmp"], facts["volume"]) == (None, None)

    def stop(self) -> None:
        """End the container as `docker stop` does. Its status is 143 after SIGTERM, or 0."""
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(120) in (0, 128 + signal.SIGTERM), self.log.read_text()[-3000:]


@pytest.fixture
def place() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="recsys-image-"))  # the image's user can enter this folder
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    with redis_server() as running:
        yield running


@contextmanager
def running(image: Unpacked, place: Path, name: str, given: dict[str, Any]) -> Iterator[Run]:
    """Run the image's own command with more settings. Its volume is the folder `place`/var."""
    port = reserved_port()
    settings = [f"{key}={value}" for key, value in {"host": "127.0.0.1", "port": port, **given}.items()]
    command = [*image.says["Cmd"][:2], *(part for each in settings for part in ("--set", each))]
    container = Container(command, writable={VOLUME: place / "var"}, memory=2 * 2**30, processes=512)
    unique, log = f"{name}-{secrets.token_hex(4)}", place / f"{name}.log"
    with run_command(image, container, place / name, unique) as started, log.open("wb") as output:
        process = subprocess.Popen(started, stdout=output, stderr=output)
        yield Run(unique, port, image, process, log)


def promoted(place: Path) -> str:
    """Promote a small version in the store of the volume, which belongs to the image's user, and return it."""
    draw(place / "version", 1)
    store = LocalStore(place / "var" / "store")
    version = publish(store, place / "version").version
    promote_version(store, version)
    for path in [place / "var", *(place / "var").rglob("*")]:
        shutil.chown(path, 10001, 10001)
    return version


@pytest.mark.parametrize("name", ["recsys-serve", "recsys-serve-torch"])
def test_the_api_answers(name: str, image: Callable[[str], Unpacked], redis: RedisServer, place: Path) -> None:
    served = image(name)
    version = promoted(place)
    given = {
        "model_name": NAME,
        "store.url": f"file:{VOLUME}/store",
        "work_dir": f"{VOLUME}/serving",
        "outcomes.folder": f"{VOLUME}/outcomes",
        "redis.url": redis.url,
        "access.published_at": "127.0.0.1",
    }
    with running(served, place, name, given) as run:
        wait_until(run.healthy, PATIENCE_S, "a healthy API")
        answer = (
            httpx.post(f"http://127.0.0.1:{run.port}/v1/recommendations", json=QUESTION, timeout=60).raise_for_status().json()
        )
        assert answer["version"] == version and len(answer["items"]) == 5
        has_torch = run.inside("python", "-c", "import torch").returncode == 0
        assert has_torch == (name == "recsys-serve-torch"), "the image without torch has it, or the other one lacks it"
        assert run.inside("python", "-c", "import prefect").returncode, "a server's image has Prefect"
        run.check_that_it_may_write_only_to_its_volume()
        run.stop()
        assert "Application shutdown complete" in run.log.read_text(), run.log.read_text()[-3000:]
