"""The services of compose that need the API's image alone run in it, with the rights and secrets that compose gives them."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from infra.images.running import Unpacked
from infra.local_stack.stack import Running, local_stack

pytestmark = pytest.mark.full


@pytest.fixture
def stack(image: Callable[[str], Unpacked]) -> Iterator[Running]:
    image("recsys-serve")
    folder = Path(tempfile.mkdtemp(prefix="recsys-images-"))
    with local_stack(folder, ["proxy"], s3=True, images=True, usual_ports=False, tell=lambda line: None) as running:
        yield running
    assert running.containers is not None
    left = subprocess.run(["runc", "list", "--quiet"], capture_output=True, text=True, check=True).stdout.split()
    assert not set(left) & set(running.containers.names.values()), "a container is left"
    shutil.rmtree(folder)


def inside(stack: Running, service: str, *command: str) -> str:
    """Return what a command prints in the container of a service."""
    assert stack.containers is not None
    name = stack.containers.names[service]
    return subprocess.run(["runc", "exec", name, *command], capture_output=True, text=True, check=True).stdout


def test_both_replicas_run_in_their_image_behind_the_proxy(stack: Running) -> None:
    assert httpx.get(f"{stack.url('proxy')}/healthz", timeout=60).status_code == 200
    for replica in ("api-1", "api-2"):
        assert httpx.get(f"{stack.url(replica)}/healthz", timeout=60).status_code == 200
        assert inside(stack, replica, "ls", "/run/secrets").split() == ["api_keys", "aws_api"]
        assert inside(stack, replica, "id", "-u").strip() == "10001"
        assert inside(stack, replica, "ls", "/app").split() and not inside(stack, replica, "ls", "/home").split()
    written = [path.name for path in (stack.layout.folder / "var").iterdir()]
    assert {"api-1", "api-2"} <= set(written)
    stack.processes["api-1"].kill()
    stack.processes["api-1"].wait()
    assert stack.containers is not None
    subprocess.run(["runc", "delete", "--force", stack.containers.names["api-1"]], check=True)
    assert httpx.get(f"{stack.url('proxy')}/healthz", timeout=60).status_code == 200, "a replica that died cost an answer"
    stack.start("api-1")
    assert httpx.get(f"{stack.url('api-1')}/healthz", timeout=60).status_code == 200, "a replica does not come back"
