"""Whether a change makes something slower: `python -m benchmarks.ratios`.

Each case runs the product's way to do something, and in turn with it a fixed reference in the same process. A ratio is what a call of
ours takes, divided by what a call of the reference takes. It is the median of several rounds, and hardly depends on the machine.
CPU instructions are counted where Linux can count them for a program, and CPU seconds elsewhere. Everything runs in one thread. The
data is made up, with fixed seeds.

The ratios are compared with the recorded ones. A case that is slower by more than its tolerance is measured again in another process.
If it is still slower, the command exits with 1. If nothing could be compared, it exits with 77. `--record` measures twice, in two
processes, and records the ratios if the two runs agree within 15 %. A tolerance is twice the difference between these runs, and at least
5 % of instructions or 15 % of seconds.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks.ratios.cases import CASES, DESCRIBED
from benchmarks.ratios.comparison import Ratios, compared, recorded_row, refuse_unlike, render, slower, table
from benchmarks.ratios.counter import counter
from benchmarks.ratios.measuring import Place, measured
from benchmarks.report import hardware, skip, write_json, write_result
from benchmarks.report import measured as code

__all__ = ["main", "measured_apart", "measured_here"]

RECORDED = Path("benchmarks/results/ratios.json")
SEED = 1
RUNS = 2  # that are recorded
ONE_THREAD = {
    name: "1"
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS", "NUMBA_NUM_THREADS")
} | {"PYTHONHASHSEED": "0"}


def main() -> None:
    """Measure the cases, and compare them with the recorded ratios or record them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", metavar="NAME", help=f"measure only these cases: {', '.join(CASES)}")
    parser.add_argument("--record", action="store_true", help="record the ratios instead of comparing them")
    parser.add_argument("--out", type=Path, default=RECORDED, help="the file of the recorded ratios")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    names = list(dict.fromkeys(given.only or CASES))
    if unknown := [name for name in names if name not in CASES]:
        parser.error(f"there is no case {', '.join(unknown)}; the cases are {', '.join(CASES)}")
    if given.child is not None:
        write_json(given.child, measured_here(names))
    elif given.record:
        _record(names, given.out)
    else:
        _compare(names, given.out)


def measured_here(names: Sequence[str], *, small: bool = False) -> dict[str, Any]:
    """Measure cases in this process, and say on stderr what was found.

    Args:
        names: Names of cases.
        small: Whether only to show that the cases run, with little data and one round.

    Returns:
        The `unit`, and the `rows`: what `measured` returns of each case.
    """
    counts, rows = counter(), {}
    with tempfile.TemporaryDirectory(prefix="recsys-ratios-") as folder, ExitStack() as stack:
        place = Place(Path(folder), stack, small)
        for name in names:
            case = CASES[name].make(place)
            rows[name] = measured(case, counts, rounds=1, seconds=0) if small else measured(case, counts)
            print(f"{name}: {rows[name]['ratio']:.3g}", file=sys.stderr, flush=True)
    return {"unit": counts.unit, "rows": rows}


def measured_apart(names: Sequence[str]) -> dict[str, Any]:
    """Measure cases in a process of their own, in one thread and with fixed hashes. Returns what `measured_here` returns."""
    with tempfile.TemporaryDirectory(prefix="recsys-ratios-") as folder:
        out = Path(folder) / "rows.json"
        command = [sys.executable, "-m", "benchmarks.ratios", "--child", str(out), "--only", *names]
        subprocess.run(command, check=True, env=os.environ | ONE_THREAD)
        found: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
    return found


def _record(names: Sequence[str], out: Path) -> None:
    """Record the ratios of the named cases. Those of other cases are kept if the processor and the unit are the same."""
    runs = [measured_apart(names) for _ in range(RUNS)]
    unit = runs[0]["unit"]
    rows = {name: recorded_row([run["rows"][name] for run in runs], unit) for name in names}
    refuse_unlike(rows)
    before, machine, commit = _recorded(out), hardware(), code()["commit"]
    rows = {name: row | {"commit": commit} for name, row in rows.items()}
    if before is not None and (before["unit"], before["hardware"]["cpu"]) == (unit, machine["cpu"]):
        rows = before["rows"] | rows
    known = {
        name: {"what": what, "reference": reference} | rows[name] for name, (what, reference) in DESCRIBED.items() if name in rows
    }
    result = {"unit": unit, "seeds": [SEED], "hardware": machine | {"threads": 1}, "rows": known}
    write_result(out, result)
    print(render(result))


def _compare(names: Sequence[str], out: Path) -> None:
    before, found = _recorded(out), measured_apart(names)
    comparable = before is not None and before["unit"] == found["unit"]
    recorded: Ratios = before["rows"] if before is not None and comparable else {}
    rows = dict(found["rows"])
    if again := slower(rows, recorded):
        print(f"Measuring again, because they seem to be slower: {', '.join(again)}", file=sys.stderr, flush=True)
        second = measured_apart(again)["rows"]
        rows |= {name: min(rows[name], second[name], key=lambda row: float(row["ratio"])) for name in again}
    print(table(compared(rows, recorded), DESCRIBED))
    print(f"\nRatios of CPU {found['unit']}.")
    if before is None:
        skip(f"there is no {out} to compare with; `python -m benchmarks.ratios --record` writes it.")
    if not comparable:
        skip(
            f"{out} has ratios of CPU {before['unit']}, and this machine counts {found['unit']}: they cannot be compared. Measure the "
            "code before your change here with --record and another --out, and compare with that file."
        )
    if (cpu := hardware()["cpu"]) != before["hardware"]["cpu"]:
        print(
            f"They were recorded on another processor ({before['hardware']['cpu']}, here {cpu}), which may explain a difference."
        )
    if late := slower(rows, recorded):
        print(f"Slower than recorded, in two processes: {', '.join(late)}.", file=sys.stderr)
        raise SystemExit(1)


def _recorded(path: Path) -> dict[str, Any] | None:
    """Return the recorded ratios, or None if there are none yet."""
    if not path.exists():
        return None
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


if __name__ == "__main__":
    main()
