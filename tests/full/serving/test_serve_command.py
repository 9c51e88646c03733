"""`recsys serve` as a process: two workers on one Redis, a promotion while it serves, and an end that loses no request."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from benchmarks.serving.mixed import mixed_load
from benchmarks.serving.world import wait_for
from infra.storage.local import LocalStore
from tests.doubles.redis_server import redis_server
from tests.ports import reserved_port
from tests.serving.versions import draw, promote_version, publish

pytestmark = pytest.mark.full


def post(port: int, path: str, body: Any) -> Any:
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}{path}", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=60) as response:
        return json.loads(response.read())


def test_two_workers_share_what_they_know_follow_promotions_and_end_after_their_last_answer(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "store")
    versions = []
    for seed in (1, 2):
        draw(tmp_path / f"v{seed}", seed)
        versions.append(publish(store, tmp_path / f"v{seed}").version)
    promote_version(store, versions[0])
    port = reserved_port()
    with redis_server() as redis:
        given = [
            "model_name=ranker",
            f"store.url=file:{tmp_path}/store",
            f"work_dir={tmp_path}/served",
            "poll_s=0.2",
            "batch.cache_s=0",
            "redis.timeout_s=30",  # a worker that gives up on Redis serves from its own memory
        ]
        command = [sys.executable, "-m", "flows.cli", "serve", "--workers", "2", "--port", str(port), "--redis", redis.url]
        command += [part for each in given for part in ("--set", each)]
        environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])}
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environment)
        lines: list[str] = []
        assert process.stderr is not None
        reader = threading.Thread(target=lambda: lines.extend(process.stderr or ()))
        reader.start()
        try:
            wait_for(lambda: urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5).read(), process, 600)
            for number in range(40):  # each connection may meet either worker
                done = post(
                    port, "/v1/events", {"events": [{"user_id": 1, "item_id": 100 + number % 30, "event_id": f"e{number}"}]}
                )
                assert done["results"][0]["outcome"] == "applied"
                assert post(port, "/v1/recommendations", {"user_id": 1})["events"] == number + 1
            promote_version(store, versions[1])
            seen: Counter[str] = Counter()
            end = time.monotonic() + 300
            while time.monotonic() < end and seen[versions[1]] < 100:
                seen[post(port, "/v1/recommendations", {"user_id": 1})["version"]] += 1
            assert seen[versions[1]] == 100 and set(seen) <= set(versions)
            metrics = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=60).read().decode()
            assert 'recsys_events_total{outcome="applied"} 40.0' in metrics  # of both workers together
            answers: list[int] = []

            def ask() -> None:
                answers.append(len(post(port, "/v1/recommendations", {"history": [{"item_id": 105}] * 9000})["items"]))

            asking = [threading.Thread(target=ask) for _ in range(8)]
            for thread in asking:
                thread.start()
            while len(answers) == 0:
                time.sleep(0.01)
            process.send_signal(signal.SIGTERM)
            for thread in asking:
                thread.join()
            assert process.wait(300) == 0 and len(answers) >= 1
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
            reader.join()
    logged = [json.loads(line) for line in lines if line.startswith("{")]
    assert sum(line.get("route") == "/v1/events" for line in logged) == 40
    assert {line["version"] for line in logged if line.get("message") == "a version took over"} == set(versions)
    assert not [line for line in logged if line.get("status", 200) >= 500 or "traceback" in line]


def test_mixed_load_while_versions_and_redis_come_and_go_fails_no_request_and_mixes_no_versions() -> None:
    found = mixed_load(12, workers=2, seed=5, pause_s=1.0)
    assert found.failed == [] and found.mixed == []
    assert found.lost == found.doubled == 0
    assert min(found.requests[kind] for kind in ("probe", "history", "user", "event")) > 20
    assert found.acts.keys() == {"other version", "rollback", "broken", "redis down"} and len(found.versions) == 2
