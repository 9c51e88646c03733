"""A case that becomes slower is told, and figures that cannot be compared are not compared."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.ratios import __main__ as command
from benchmarks.ratios.cases import CASES
from benchmarks.ratios.comparison import DIFFER, LEAST, compared, recorded_row, refuse_unlike, slower, verdict
from benchmarks.ratios.counter import Instructions, Seconds, Unit, counter
from benchmarks.ratios.measuring import Case, measured, median_ratio, repeated
from benchmarks.report import SKIPPED
from benchmarks.tables import TABLES, table

SERVED = ["state", "event", "history", "cached"]
COSTS = {"state": 3.0, "gate": 0.5}
RATIO = st.floats(0.01, 1000)


class Steps:
    """Counts the steps that its sides report, so that the figures are exact."""

    def __init__(self, unit: Unit = "instructions") -> None:
        self.unit: Unit = unit
        self.steps = 0.0

    def read(self) -> float:
        return self.steps

    def side(self, steps: float) -> Any:
        def call() -> None:
            self.steps += steps

        return repeated(call)


class Machine:
    """Measures cases whose costs are known, as a process of its own would. `slowed` says how much slower ours are in each run."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, unit: Unit = "instructions") -> None:
        self.unit = unit
        self.slowed: list[float] = [1.0]
        self.asked: list[list[str]] = []
        monkeypatch.setattr(command, "measured_apart", self.measured_apart)

    def measured_apart(self, names: Sequence[str]) -> dict[str, Any]:
        self.asked.append(list(names))
        by, rows = self.slowed[min(len(self.asked), len(self.slowed)) - 1], {}
        for name in names:
            steps = Steps(self.unit)
            case = Case(steps.side(COSTS[name] * (by if name == "gate" else 1)), steps.side(1))
            rows[name] = measured(case, steps, rounds=3, seconds=0)
        return {"unit": self.unit, "rows": rows}

    def run(self, monkeypatch: pytest.MonkeyPatch, out: Path, *arguments: str, slowed: Sequence[float] = (1.0,)) -> int:
        self.asked, self.slowed = [], list(slowed)
        monkeypatch.setattr(sys, "argv", ["ratios", "--only", *COSTS, "--out", str(out), *arguments])
        try:
            command.main()
        except SystemExit as ended:
            return 0 if ended.code is None else ended.code if isinstance(ended.code, int) else -1
        return 0


def test_a_ratio_is_the_median_of_the_ratios_of_the_rounds() -> None:
    median, spread = median_ratio([2.0, 30.0, 9.0], [1.0, 10.0, 2.0])
    assert median == 3.0 and spread == pytest.approx(1.25 / 3)
    assert median_ratio([5.0], [2.0]) == (2.5, 0.0)
    steps = Steps()
    found = measured(Case(steps.side(6), steps.side(4)), steps, rounds=3, seconds=0)
    assert found == {"ratio": 1.5, "spread": 0.0, "ours": 6.0, "reference": 4.0}


def test_a_side_is_called_as_often_as_it_takes_to_be_measured() -> None:
    calls = {"ours": 0, "reference": 0}

    def side(name: str, work: int) -> Any:
        def call() -> None:
            calls[name] += 1
            sum(range(work))

        return repeated(call)

    found = measured(Case(side("ours", 10), side("reference", 100_000)), Seconds(), rounds=1, seconds=0.01)
    assert calls["ours"] > 10 * calls["reference"] > 0 and 0 < found["ratio"] < 1


@given(recorded=RATIO, tolerance=st.floats(0.01, 0.3), times=st.floats(0.1, 10))
def test_a_ratio_is_the_same_within_its_tolerance(recorded: float, tolerance: float, times: float) -> None:
    word = verdict(recorded * times, recorded, tolerance)
    if abs(times - 1 - tolerance) > 1e-9 and abs(times - 1 / (1 + tolerance)) > 1e-9:
        assert word == ("slower" if times > 1 + tolerance else "faster" if times < 1 / (1 + tolerance) else "same")


@given(first=RATIO, times=st.floats(1, 1 + DIFFER), unit=st.sampled_from(["instructions", "seconds"]))
def test_no_recorded_run_is_slower_than_the_record_and_twice_as_slow_always_is(first: float, times: float, unit: Unit) -> None:
    runs = [{"ratio": first, "spread": 0.1}, {"ratio": first * times, "spread": 0.2}]
    row = recorded_row(runs, unit)  # type: ignore[arg-type]
    assert LEAST[unit] <= row["tolerance"] <= 2 * DIFFER + 1e-6 and row["spread"] == 0.2
    for run in runs:
        assert slower({"a": run}, {"a": row}) == []
        assert slower({"a": run | {"ratio": 2 * run["ratio"]}}, {"a": row}) == ["a"]


def test_a_case_that_is_not_recorded_yet_is_new_and_not_slower() -> None:
    found = {"new": {"ratio": 9.0, "spread": 0.1}}
    assert compared(found, {})["new"]["word"] == "new" and slower(found, {}) == []


def test_runs_that_differ_much_are_not_recorded() -> None:
    with pytest.raises(SystemExit, match=r"differ by more than 15% in: gate \(50%\)"):
        refuse_unlike({"gate": {"difference": 0.5}, "state": {"difference": 0.1}})


def test_a_planted_slowdown_is_measured_again_then_told_and_the_command_exits_with_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    machine, out = Machine(monkeypatch), tmp_path / "ratios.json"
    assert machine.run(monkeypatch, out, "--record") == 0 and machine.asked == [list(COSTS)] * 2
    assert machine.run(monkeypatch, out) == 0 and machine.asked == [list(COSTS)]
    assert "= same" in capsys.readouterr().out
    assert machine.run(monkeypatch, out, slowed=[2, 2]) == 1 and machine.asked == [list(COSTS), ["gate"]]
    said = capsys.readouterr()
    line = next(line for line in said.out.splitlines() if line.startswith("| `gate`"))
    assert "+100.0%" in line and "▲ slower" in line and "Slower than recorded, in two processes: gate." in said.err
    assert machine.run(monkeypatch, out, slowed=[2, 1]) == 0, "slower in one process only"
    assert machine.run(monkeypatch, out, slowed=[0.5]) == 0
    assert "▼ faster" in capsys.readouterr().out


def test_a_part_of_the_cases_can_be_recorded_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine, out = Machine(monkeypatch), tmp_path / "ratios.json"
    machine.run(monkeypatch, out, "--record")
    machine.run(monkeypatch, out, "--record", "--only", "gate", slowed=[4])
    rows = json.loads(out.read_text())["rows"]
    assert {name: row["ratio"] for name, row in rows.items()} == {"state": 3.0, "gate": 2.0}


def test_instructions_and_seconds_are_not_mixed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "ratios.json"
    Machine(monkeypatch).run(monkeypatch, out, "--record")
    capsys.readouterr()
    machine = Machine(monkeypatch, "seconds")
    assert machine.run(monkeypatch, out, slowed=[2]) == SKIPPED
    said = capsys.readouterr()
    assert "? new" in said.out and "slower" not in said.out
    assert "has ratios of CPU instructions, and this machine counts seconds: they cannot be compared" in said.err
    machine.run(monkeypatch, out, "--record", "--only", "gate")
    kept = json.loads(out.read_text())
    assert kept["unit"] == "seconds" and list(kept["rows"]) == ["gate"]


def test_without_recorded_ratios_the_command_says_how_to_record_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert Machine(monkeypatch).run(monkeypatch, tmp_path / "none.json") == SKIPPED
    assert "`python -m benchmarks.ratios --record` writes it" in capsys.readouterr().err


def test_an_unknown_case_is_refused_with_the_known_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert Machine(monkeypatch).run(monkeypatch, tmp_path / "none.json", "--only", "gate", "speed") == 2
    assert f"there is no case speed; the cases are {', '.join(CASES)}" in capsys.readouterr().err


def test_the_recorded_ratios_have_a_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Machine(monkeypatch).run(monkeypatch, tmp_path / TABLES["ratios"].file, "--record")
    made = table("ratios", tmp_path)
    assert "| an answer from a kept state | FastAPI's canned answer | 3 (3, 3) | 5% |" in made and "1 of" in made


def test_seconds_include_children_that_have_ended_and_the_work_of_threads() -> None:
    def work() -> None:
        sum(range(300_000))

    clock = Seconds()
    before = clock.read()
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert clock.read() > before


def test_instructions_are_counted_or_refused_with_the_reason() -> None:
    """Where they can be counted, twice the work takes about twice as many. Where they cannot, seconds are counted."""
    try:
        counts = Instructions()
    except OSError as error:
        assert error.errno and counter().unit == "seconds"
        return
    found = []
    for size in (200_000, 400_000):
        before = counts.read()
        sum(range(size))
        found.append(counts.read() - before)
    assert counter().unit == "instructions" and 1.5 < found[1] / found[0] < 2.5


@pytest.mark.full
@pytest.mark.parametrize("names", [SERVED, *([name] for name in CASES if name not in SERVED)], ids=lambda names: names[-1])
def test_every_case_runs(names: list[str]) -> None:
    found = command.measured_here(names, small=True)
    assert list(found["rows"]) == names and all(row["ratio"] > 0 for row in found["rows"].values())


@pytest.mark.full
def test_a_case_is_measured_in_a_process_of_its_own() -> None:
    found = command.measured_apart(["gate"])
    assert list(found["rows"]) == ["gate"] and found["rows"]["gate"]["ratio"] > 0 and found["unit"] == counter().unit
