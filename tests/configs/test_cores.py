"""Threads are counted by what a container may use, not by the cores of its machine."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from configs.cores import available_cores, threads_of_each

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def eight_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 64)


def machine(folder: Path, cgroup: str, files: dict[str, str]) -> Path:
    for name, text in {"proc/self/cgroup": cgroup, **{f"sys/fs/cgroup/{name}": text for name, text in files.items()}}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text + "\n")
    return folder


@pytest.mark.parametrize(
    ("cgroup", "files", "cores"),
    [
        ("0::/", {}, 8),
        ("0::/", {"cpu.max": "max 100000"}, 8),
        ("0::/", {"cpu.max": "350000 100000"}, 3),
        ("0::/", {"cpu.max": "50000 100000"}, 1),
        ("0::/", {"cpu.max": "3200000 100000"}, 8),
        ("0::/pod/app", {"pod/cpu.max": "200000 100000", "pod/app/cpu.max": "max 100000"}, 2),
        ("4:memory:/a\n1:cpu,cpuacct:/a", {"cpu,cpuacct/a/cpu.cfs_quota_us": "400000", "cpu,cpuacct/a/cpu.cfs_period_us": "100000"}, 4),
        ("1:cpu:/docker/x", {"cpu/cpu.cfs_quota_us": "200000", "cpu/cpu.cfs_period_us": "100000"}, 2),
        ("1:cpu:/", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, 8),
    ],
)  # fmt: skip
def test_quota_and_affinity_bound_the_cores(cgroup: str, files: dict[str, str], cores: int, tmp_path: Path) -> None:
    assert available_cores(machine(tmp_path, cgroup, files)) == cores


def test_without_control_groups_the_affinity_counts(tmp_path: Path) -> None:
    assert available_cores(tmp_path) == 8


def test_processes_share_the_cores_and_leave_one_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("configs.cores.available_cores", lambda: 9)
    assert [threads_of_each(processes) for processes in (1, 2, 20)] == [8, 4, 1]


def test_nothing_else_counts_the_cores_of_the_machine() -> None:
    counts = re.compile(r"\bcpu_count\b|\bsched_getaffinity\b")
    folders = ("benchmarks", "configs", "examples", "flows", "infra", "models", "serving", "tasks")
    found = [
        str(path.relative_to(ROOT))
        for folder in folders
        for path in (ROOT / folder).rglob("*.py")
        if counts.search(path.read_text())
    ]
    assert found == ["configs/cores.py"]
