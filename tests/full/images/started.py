"""Containers that a test starts by their image's own entry point, with the rights that compose gives them."""

from __future__ import annotations

import json
import secrets
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from infra.images.running import Container, Unpacked, run_command

__all__ = ["PATIENCE_S", "VOLUME", "Run", "give_to_the_image", "once", "running"]

VOLUME = "/var/lib/recsys"
USER = 10001
PATIENCE_S = 900
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
    """A running container. Its server, if it has one, listens on `port` in place of `usual`."""

    name: str
    image: Unpacked
    process: subprocess.Popen[bytes]
    log: Path
    port: int
    usual: int

    def inside(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command in the container, with its variables."""
        return subprocess.run(["runc", "exec", self.name, *command], capture_output=True, text=True, check=False)

    def healthy(self) -> bool:
        """Return what the image's own health check says."""
        self.check_that_it_runs()
        command = [part.replace(f":{self.usual}/", f":{self.port}/") for part in self.image.health]
        return self.inside(*command).returncode == 0

    def check_that_it_runs(self) -> None:
        assert self.process.poll() is None, self.log.read_text()[-3000:]

    def check_that_it_may_write_only_to_its_volume(self) -> None:
        facts = json.loads(self.inside("python", "-c", FACTS).stdout)
        assert facts["user"] == USER and facts["first"] == "/usr/bin/tini" and facts["capabilities"] == 0
        assert (facts["code"], facts["etc"]) == ("Read-only file system",) * 2
        assert (facts["tmp"], facts["volume"]) == (None, None)

    def stop(self) -> None:
        """End the container as `docker stop` does. Its status is 143 after SIGTERM, or 0."""
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(120) in (0, 128 + signal.SIGTERM), self.log.read_text()[-3000:]


@contextmanager
def running(
    image: Unpacked,
    place: Path,
    command: Sequence[str],
    environment: Mapping[str, str] | None = None,
    *,
    port: int = 0,
    usual: int = 0,
) -> Iterator[Run]:
    """Run a command in a container. Its volume is the folder `place`/var."""
    container = Container(
        list(command), environment=environment or {}, writable={VOLUME: place / "var"}, memory=4 * 2**30, processes=4096
    )
    name = f"test-{secrets.token_hex(6)}"
    log = place / f"{name}.log"
    with run_command(image, container, place / name, name) as started, log.open("wb") as output:
        process = subprocess.Popen(started, stdout=output, stderr=output)
        yield Run(name, image, process, log, port, usual)


def once(image: Unpacked, place: Path, *command: str, environment: Mapping[str, str] | None = None) -> str:
    """Run a command in a container of its own, and return what it writes."""
    with running(image, place, command, environment) as run:
        status = run.process.wait(PATIENCE_S)
        said = run.log.read_text()
    assert status == 0, f"{command}: {said[-3000:]}"
    return said


def give_to_the_image(folder: Path) -> None:
    """Let the folder and all in it belong to the user of the images."""
    for path in [folder, *folder.rglob("*")]:
        shutil.chown(path, USER, USER)
