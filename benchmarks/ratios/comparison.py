"""Compare the ratios of two runs: which case has become slower, by more than runs of the same code differ."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from benchmarks.ratios.counter import Unit
from infra.pages import markdown_table

__all__ = ["DIFFER", "LEAST", "Ratios", "compared", "recorded_row", "refuse_unlike", "render", "slower", "table", "verdict"]

Ratios = Mapping[str, Mapping[str, Any]]
Word = Literal["same", "faster", "slower", "new"]
LEAST: dict[Unit, float] = {"instructions": 0.05, "seconds": 0.15}
"""Smallest tolerance of a case. Two runs of the same code differ by as much now and then, even if the recorded ones were closer."""
TIMES = 2
"""A tolerance is at least as many times the difference between the recorded runs."""
DIFFER = 0.15
"""Ratios whose runs differ by more than this are not recorded. So no tolerance is above 0.30, and half the speed is always seen."""
SIGNS: dict[Word, str] = {"same": "=", "faster": "▼", "slower": "▲", "new": "?"}


def verdict(ratio: float, recorded: float, tolerance: float) -> Word:
    """Return whether a ratio is slower or faster than the recorded one by more than the tolerance, a share of it."""
    change = ratio / recorded
    return "slower" if change > 1 + tolerance else "faster" if change < 1 / (1 + tolerance) else "same"


def slower(found: Ratios, recorded: Ratios) -> list[str]:
    """Return the names of the cases that are slower than recorded. A case without a recorded ratio is not slower."""
    return [name for name, row in compared(found, recorded).items() if row["word"] == "slower"]


def compared(found: Ratios, recorded: Ratios) -> dict[str, dict[str, Any]]:
    """Return the found rows with their `word` and, if the case is recorded, its `recorded` ratio and the `change`, a share of it."""
    rows: dict[str, dict[str, Any]] = {}
    for name, row in found.items():
        rows[name] = dict(row) | {"word": "new"}
        if name in recorded:
            before = recorded[name]
            rows[name] |= {
                "recorded": before["ratio"],
                "change": row["ratio"] / before["ratio"] - 1,
                "word": verdict(row["ratio"], before["ratio"], before["tolerance"]),
            }
    return rows


def recorded_row(runs: list[Mapping[str, Any]], unit: Unit) -> dict[str, Any]:
    """Return what is recorded of a case: its middle ratio, and a tolerance that follows from how much its runs differ.

    Args:
        runs: At least two runs of the same code, each in a process of its own.
        unit: The unit that they were counted in.
    """
    ratios = sorted(run["ratio"] for run in runs)
    difference = ratios[-1] / ratios[0] - 1
    return {
        "ratio": (ratios[0] + ratios[-1]) / 2,
        "difference": difference,
        "tolerance": max(LEAST[unit], TIMES * difference),
        "spread": max(run["spread"] for run in runs),
        "runs": [run["ratio"] for run in runs],
    }


def refuse_unlike(rows: Ratios) -> None:
    """Refuse to record cases whose runs differ too much. Exits with one sentence."""
    unlike = [f"{name} ({row['difference']:.0%})" for name, row in rows.items() if row["difference"] > DIFFER]
    if unlike:
        raise SystemExit(
            f"Nothing was recorded, because runs of the same code differ by more than {DIFFER:.0%} in: {', '.join(unlike)}. "
            "Record again while the machine has less other work."
        )


def table(rows: Ratios, described: Mapping[str, tuple[str, str]]) -> str:
    """Return the comparison as Markdown.

    Args:
        rows: What `compared` returns.
        described: What each case does, and what its reference does.
    """
    head = ["case", "what", "reference", "ratio now", "spread", "recorded", "change", ""]
    lines = []
    for name, row in rows.items():
        before = [f"{row['recorded']:.3g}", f"{row['change']:+.1%}"] if "recorded" in row else ["", ""]
        figures = [f"{row['ratio']:.3g}", f"{row['spread']:.1%}", *before]
        lines.append([f"`{name}`", *described[name], *figures, f"{SIGNS[row['word']]} {row['word']}"])
    return markdown_table(head, lines)


def render(result: Mapping[str, Any]) -> str:
    """Return the recorded ratios as Markdown."""
    rows = []
    for row in result["rows"].values():
        runs = ", ".join(f"{ratio:.3g}" for ratio in row["runs"])
        rows.append([row["what"], row["reference"], f"{row['ratio']:.3g} ({runs})", f"{row['tolerance']:.0%}"])
    return markdown_table(["ours", "reference", f"ratio of CPU {result['unit']} (every run)", "tolerance"], rows)
