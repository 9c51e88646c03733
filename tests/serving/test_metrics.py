"""The metrics of several workers: dead ones vanish, counters only grow, and no label grows with time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from prometheus_client import Counter, Gauge
from prometheus_client.parser import text_string_to_metric_families

from serving.metrics import Metrics

WORKER = """
import sys
from serving.metrics import Metrics
metrics = Metrics()
number = int(sys.argv[1])
metrics.promotion.set(number)
metrics.redis_up.set(0 if number == 2 else 1)
metrics.show_models([(f"v{number}", "ss4rec", "champion")])
metrics.requests.labels("/", "200").inc(number)
for line in sys.stdin:
    if line.startswith("promote"):
        metrics.show_models([("v9", "ss4rec", "champion"), (f"v{number}", "ss4rec", "beside")])
        print("done", flush=True)
    else:
        text = metrics.render().decode()
        print(len(text.splitlines()), flush=True)
        print(text, end="", flush=True)
"""


class Worker:
    def __init__(self, number: int, folder: Path) -> None:
        environment = os.environ | {"PROMETHEUS_MULTIPROC_DIR": str(folder)}
        command = [sys.executable, "-c", WORKER, str(number)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)

    def ask(self, what: str) -> str:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(f"{what}\n")
        self.process.stdin.flush()
        return self.process.stdout.readline()

    def metrics(self) -> dict[tuple[str, ...], float]:
        lines = int(self.ask("render"))
        assert self.process.stdout is not None
        text = "".join(self.process.stdout.readline() for _ in range(lines))
        return {
            (sample.name, *(sample.labels[name] for name in sorted(sample.labels))): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }


def test_the_gauges_of_a_killed_worker_vanish_and_its_counters_stay(tmp_path: Path) -> None:
    one, other = Worker(1, tmp_path), Worker(2, tmp_path)
    (tmp_path / "counter_1.db").touch()  # of a worker that was killed, or is just starting, before it wrote anything
    try:
        assert other.metrics()["recsys_promotion",] >= 1
        before = one.metrics()
        assert before["recsys_redis_up",] == 0 and before["recsys_model_info", "ss4rec", "champion", "v2"] == 1
        other.process.send_signal(signal.SIGKILL)
        os.waitid(os.P_PID, other.process.pid, os.WEXITED | os.WNOWAIT)  # its parent has not waited for it yet
        after = one.metrics()
        assert after["recsys_redis_up",] == 1 and after["recsys_promotion",] == 1
        assert [key for key in after if key[0] == "recsys_model_info"] == [("recsys_model_info", "ss4rec", "champion", "v1")]
        memory = "process_resident_memory_bytes"
        assert (
            before[memory,] > after[memory,] > 10e6 and after["process_open_fds",] > 2 and after["process_cpu_seconds_total",] > 0
        )
        assert after["recsys_requests_total", "/", "200"] == 3, "a counter that falls looks like a restart"
        assert one.ask("promote") == "done\n"
        assert {key[1:] for key in one.metrics() if key[0] == "recsys_model_info"} == {
            ("ss4rec", "champion", "v9"),
            ("ss4rec", "beside", "v1"),
        }
    finally:
        for worker in (one, other):
            worker.process.kill()
            worker.process.communicate()


def test_series_do_not_grow_with_promotions() -> None:
    metrics = Metrics()

    def promoted(number: int) -> int:
        metrics.show_models([(f"v{number}", "ss4rec", "champion"), (f"v{number - 1}", "ss4rec", "beside")])
        for version in (f"v{number}", f"v{number - 1}", "v0", ""):
            metrics.seconds.labels("/v1/recommendations", metrics.role_of(version)).observe(0.1)
            metrics.answers.labels(metrics.role_of(version), "state").inc()
        return len(metrics.render().splitlines())

    promoted(1)
    second = promoted(2)
    assert [promoted(number) for number in range(3, 20)] == [second] * 17
    assert [metrics.role_of(version) for version in ("v19", "v18", "v3", "")] == ["champion", "beside", "former", ""]


def test_totals_are_counters_and_gauges_are_those_of_live_workers() -> None:
    metrics = Metrics()
    counters = {metric._name for metric in vars(metrics).values() if isinstance(metric, Counter)}
    assert {"recsys_lost_users", "recsys_exposures_dropped", "recsys_log_lines_dropped", "recsys_background_failures"} <= counters
    gauges = [metric for metric in vars(metrics).values() if isinstance(metric, Gauge)]
    assert gauges and all(gauge._multiprocess_mode.startswith("live") for gauge in gauges)


def test_a_counter_follows_a_total_and_never_falls() -> None:
    metrics = Metrics()
    for total in (3, 3, 5, 4):
        metrics.count(metrics.lost, total)
    assert "recsys_lost_users_total 5.0" in metrics.render().decode()


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PROMETHEUS_MULTIPROC_DIR", raising=False)
