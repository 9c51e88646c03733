"""A pytest plugin that begins with the files that took longest in an earlier run.

With `--dist loadfile --no-loadscope-reorder`, pytest-xdist hands out files in the order of the collection. A file
that takes minutes and begins last would leave the other processes idle. `make test-durations` records the seconds.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest

__all__ = ["DURATIONS", "longest_first", "read_durations"]

DURATIONS = Path(__file__).with_name("durations.json")


def read_durations(path: Path = DURATIONS) -> dict[str, float]:
    """Return the seconds that each file of tests takes."""
    found: dict[str, float] = json.loads(path.read_text(encoding="utf-8"))
    return found


def longest_first(files: Iterable[str], seconds: Mapping[str, float]) -> list[str]:
    """Return the files in the order in which they begin. A file without a record may be long, so it begins before all others."""
    return sorted(files, key=lambda file: (-seconds.get(file, float("inf")), file))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--record-durations", action="store_true", help="write the seconds of each file to tests/durations.json")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    files = {item: item.nodeid.partition("::")[0] for item in items}
    place = {file: number for number, file in enumerate(longest_first(set(files.values()), read_durations()))}
    items.sort(key=lambda item: place[files[item]])  # stable: within a file the order stays


def pytest_configure(config: pytest.Config) -> None:
    # Processes of pytest-xdist report to the one that started them, and that one writes.
    if config.getoption("record_durations") and not hasattr(config, "workerinput"):
        config.pluginmanager.register(Recorder(DURATIONS), "durations")


class Recorder:
    """Adds up what the tests of each file take, and keeps the record of files that did not run."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seconds: dict[str, float] = defaultdict(float)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._seconds[report.nodeid.partition("::")[0]] += report.duration

    def pytest_sessionfinish(self) -> None:
        before = read_durations(self._path) if self._path.exists() else {}
        kept = {file: seconds for file, seconds in before.items() if (self._path.parents[1] / file).exists()}
        found = kept | {file: round(seconds, 1) for file, seconds in self._seconds.items()}
        self._path.write_text(json.dumps(dict(sorted(found.items())), indent=1) + "\n", encoding="utf-8")
