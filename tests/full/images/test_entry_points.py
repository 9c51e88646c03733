"""The images of the API, started by their own entry point as compose starts them: they answer, are healthy, may write nowhere but in their
volume and /tmp, and end in order."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from infra.images.running import Unpacked
from infra.storage.local import LocalStore
from models.transformers import HSTU
from models.transformers.settings import HSTUSettings
from tasks.evaluation.load_check import SAMPLE_FILE, sample_requests
from tests.doubles.live_prefect import wait_until
from tests.doubles.redis_server import RedisServer, redis_server
from tests.full.images.started import PATIENCE_S, VOLUME, Run, give_to_the_image, running
from tests.ports import reserved_port
from tests.serving.versions import NAME, draw, promote_version, publish
from tests.tasks.stored import small_split

pytestmark = pytest.mark.full
QUESTION = {"history": [{"item_id": 101}, {"item_id": 105}], "k": 5}


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    with redis_server() as running:
        yield running


def promoted(place: Path, *, needs_torch: bool) -> str:
    """Promote a small version in the store of the volume, and return it. With `needs_torch`, its kind has no serving form of its own."""
    draw(place / "version", 1)
    if needs_torch:
        parts, model = small_split(), HSTU(HSTUSettings(width=8, blocks=1, max_length=20, max_epochs=1, device="cpu"))
        model.fit(parts.train, parts.valid, parts.catalogue, seed=1, mask_seen=True)
        model.save(place / "version")
        (place / "version" / SAMPLE_FILE).write_text(json.dumps(sample_requests(model, parts.test, count=5, seed=0)))
    store = LocalStore(place / "var" / "store")
    version = publish(store, place / "version").version
    promote_version(store, version)
    give_to_the_image(place / "var")
    return version


@contextmanager
def served(image: Unpacked, place: Path, usual: int, given: dict[str, Any]) -> Iterator[Run]:
    """Run the image's own command with more settings, on a port of its own."""
    port = reserved_port()
    settings = {"host": "127.0.0.1", "port": port, "model_name": NAME, "store.url": f"file:{VOLUME}/store", **given}
    command = [*image.says["Cmd"][:2], *(part for key, value in settings.items() for part in ("--set", f"{key}={value}"))]
    with running(image, place, command, port=port, usual=usual) as run:
        yield run


@pytest.mark.parametrize(
    ("name", "needs_torch"), [("recsys-serve", False), ("recsys-serve-torch", False), ("recsys-serve-torch", True)]
)
def test_the_api_answers(name: str, needs_torch: bool, image: Callable[[str], Unpacked], redis: RedisServer, place: Path) -> None:
    api = image(name)
    version = promoted(place, needs_torch=needs_torch)
    given = {
        "work_dir": f"{VOLUME}/serving",
        "outcomes.folder": f"{VOLUME}/outcomes",
        "redis.url": redis.url,
        "access.published_at": "127.0.0.1",
    }
    with served(api, place, 8000, given) as run:
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
