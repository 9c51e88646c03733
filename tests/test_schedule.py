from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

from tests.schedule import DURATIONS, Recorder, longest_first, read_durations


def test_the_longest_files_begin_first_and_unknown_ones_before_all_others() -> None:
    seconds = {"a.py": 1.0, "b.py": 90.0, "c.py": 3.0}
    assert longest_first(["a.py", "b.py", "c.py", "new.py"], seconds) == ["new.py", "b.py", "c.py", "a.py"]


def test_every_process_orders_the_same_files_in_the_same_way() -> None:
    assert longest_first(["b.py", "a.py"], {}) == longest_first(["a.py", "b.py"], {}) == ["a.py", "b.py"]


def test_what_ran_is_recorded_and_what_did_not_run_keeps_its_record(tmp_path: Path) -> None:
    tests = tmp_path / "tests"
    tests.mkdir()
    for name in ("test_a.py", "test_b.py"):
        (tests / name).touch()
    path = tests / "durations.json"
    path.write_text(json.dumps({"tests/test_a.py": 5.0, "tests/test_b.py": 7.0, "tests/test_deleted.py": 9.0}))
    recorder = Recorder(path)
    for phase, duration in (("setup", 1.04), ("call", 2.0), ("teardown", 0.5)):
        recorder.pytest_runtest_logreport(SimpleNamespace(nodeid="tests/test_a.py::test_x[p]", when=phase, duration=duration))  # type: ignore[arg-type]
    recorder.pytest_sessionfinish()
    assert read_durations(path) == {"tests/test_a.py": 3.5, "tests/test_b.py": 7.0}


def test_the_record_names_files_that_exist() -> None:
    root = DURATIONS.parents[1]
    gone = [file for file in read_durations() if not (root / file).exists()]
    assert not gone, f"run make test-durations, or take these out of {DURATIONS.name}: {gone}"
