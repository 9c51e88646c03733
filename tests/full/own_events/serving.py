"""A server of a team's own events, asked by the team's own ids."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import yaml

from benchmarks.serving.world import wait_for
from tests.own_events import Shape
from tests.ports import reserved_port

__all__ = ["check_served"]

ROOT = Path(__file__).parents[3]


class Server:
    """Calls to the API. Each fails if the answer is not 200."""

    def __init__(self, port: int) -> None:
        self._address = f"http://127.0.0.1:{port}"

    def get(self, path: str) -> Any:
        with urllib.request.urlopen(f"{self._address}{path}", timeout=120) as response:
            return json.loads(response.read())

    def post(self, path: str, body: Any) -> Any:
        request = urllib.request.Request(
            f"{self._address}{path}", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=120) as response:
            return json.loads(response.read())


@contextmanager
def serving(folder: Path, model_name: str | None) -> Iterator[Server]:
    """Run `recsys serve` in the folder of a team."""
    port = reserved_port()
    command = [
        sys.executable,
        "-m",
        "flows.cli",
        "serve",
        "--port",
        str(port),
        "--set",
        "log_requests=false",
        "--set",
        "batch.cache_s=0",
    ]
    command += ["--set", f"model_name={model_name}"] if model_name else []
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)
    try:
        server = Server(port)
        wait_for(lambda: server.get("/readyz"), process, 600)
        yield server
    finally:
        process.terminate()
        process.wait(120)


def check_served(folder: Path, shape: Shape) -> None:
    """Serve the version that was promoted in `folder`, and ask for users of the events by the team's ids.

    A known user's first answer is personal, an event changes it, a new user becomes known by events, and all ids are the team's.
    """
    settings = yaml.safe_load((folder / f"{shape.name}.yaml").read_text())
    events, items = shape.events, set(shape.events[shape.item].tolist())
    last = {user: own.tail(2)[shape.item].tolist() for user, own in events.groupby(shape.user, sort=False)}
    users = [user if isinstance(user, str) else int(user) for user in list(last)[:20]]
    plain = [item if isinstance(item, str) else int(item) for item in items]
    with serving(folder, settings.get("model_name")) as server:
        lists = []
        for user in users:
            found = server.post("/v1/recommendations", {"user_id": user, "k": 10})
            assert (found["user_id"], found["source"]) == (user, "rebuilt") and found["events"] > 1
            assert len(found["items"]) == 10 and {item["item_id"] for item in found["items"]} <= items
            lists.append([item["item_id"] for item in found["items"]])
        assert len({tuple(each) for each in lists}) > len(lists) / 2, "the answers are personal"
        cold = server.post("/v1/recommendations", {"user_id": "nobody-42" if isinstance(users[0], str) else 42, "k": 10})
        assert cold["source"] == "cold"
        user = users[0]
        told = server.post("/v1/events", {"events": [{"user_id": user, "item_id": plain[0]}]})
        assert told["results"][0]["outcome"] == "applied" and told["results"][0]["known"]
        kept = server.get(f"/v1/users/{quote(str(user), safe='')}/events")
        assert kept["user_id"] == user and kept["events"][-1]["item_id"] == plain[0] and kept["count"] > 2
        after = server.post("/v1/recommendations", {"user_id": user, "k": 10, "explain": True})
        assert after["source"] == "state" and [item["item_id"] for item in after["items"]] != lists[0]
        model = server.get("/v1/models")["data"]
        assert model["repeats"] == shape.data.get("repeats", "newest")
        assert model["user_id"] == ("text" if isinstance(user, str) else "integer")
        seen = {item["item_id"] for item in after["items"]} & set(map(str, last[user]) if isinstance(user, str) else last[user])
        assert model["repeats"] == "keep" or not seen
