"""The rules of a decision as tables, the same on the page, in the Prefect UI and in the terminal.

A rule that compares two models shows both figures, their difference and the test. Any other rule shows its figure and the bound.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from infra.pages import folded, markdown_table
from tasks.gate.decision import ANCHOR, BEATS, LIMIT, Decision, Rule, shown_p

__all__ = ["Cell", "RuleRow", "RuleTable", "rule_tables", "rules_markdown", "verdict_words"]

HELD, PASSED = "✗ held", "✓ passed"
VERDICTS = {
    "passed": PASSED,
    "failed": HELD,
    "not judged": "\N{EN DASH} could not be judged",
    "not applicable": "\N{EN DASH} does not apply",
}
LOSS_TEST = "p >"
LOSS = {
    "passed": "○ no loss shown",
    "failed": "✗ loss shown",
}  # of a test that looks for a loss: to find none does not prove that there is none
NAME, FIGURE = 18, 11  # characters of a line of a rule's name and of its figures: six columns then fit a page of the Prefect UI
SIGNS = {"<=": "≤", ">=": "≥", "==": "=", ">": ">", "<": "<"}


class Cell(NamedTuple):
    """What a cell says, and what is below it in small print."""

    text: str
    note: str = ""


@dataclass(frozen=True)
class RuleRow:
    """One rule: a cell for each column, and the sentence that explains it."""

    cells: tuple[Cell, ...]
    mark: Literal["passed", "failed", "open"]
    detail: str


@dataclass(frozen=True)
class RuleTable:
    """Rules of one kind, with the names of the columns."""

    title: str
    head: tuple[Cell, ...]
    rows: list[RuleRow]

    @property
    def lines(self) -> tuple[list[str], list[list[str]]]:
        """Head and rows as plain text, with what is below a cell in brackets."""
        return [_line(cell) for cell in self.head], [[_line(cell) for cell in row.cells] for row in self.rows]


def rule_tables(decision: Decision) -> list[RuleTable]:
    """Return the rules of a decision as up to three tables: against the champion, against the baselines, and limits."""
    against: dict[str, list[RuleRow]] = {"champion": [], "baseline": []}
    limits = []
    for rule in decision.rules:
        if rule.name.startswith(BEATS):
            against["baseline"].append(_compared(rule, decision))
        elif rule.group in (2, 3) and (rule.comparison.startswith("p ") or not rule.comparison):
            against["champion"].append(_compared(rule, decision))
        else:
            limits.append(_limit(rule))
    tables = [
        RuleTable(f"Against the {name}{'s' if name == 'baseline' else ''}", _columns(name), rows)
        for name, rows in against.items()
        if rows
    ]
    return [*tables, RuleTable("Limits", tuple(map(Cell, ("rule", "figure", "must be", "verdict"))), limits)]


def rules_markdown(decision: Decision) -> str:
    """Return the tables as Markdown that fits the width of a page of the Prefect UI."""
    return "\n\n".join(f"### {table.title}\n\n{_markdown(table)}" for table in rule_tables(decision))


def verdict_words(rule: Rule) -> str:
    """Return the verdict as a sign and words. A test that looked for a loss and found none has not shown that there is none."""
    return (LOSS if rule.comparison == LOSS_TEST else VERDICTS).get(rule.verdict, VERDICTS[rule.verdict])


def _markdown(table: RuleTable) -> str:
    head, *rows = [_folded(cells) for cells in (table.head, *(row.cells for row in table.rows))]
    return markdown_table(head, rows)


def _folded(cells: tuple[Cell, ...]) -> list[str]:
    widths = [NAME, *[FIGURE] * (len(cells) - 1)]
    return ["<br>".join(folded(line, width) for line in cell if line) for cell, width in zip(cells, widths, strict=True)]


def _line(cell: Cell) -> str:
    return f"{cell.text} ({cell.note})" if cell.note else cell.text


def _columns(opponent: str) -> tuple[Cell, ...]:
    compared = Cell("rule"), Cell("challenger"), Cell(opponent), Cell("difference", "95 % interval")
    return (*compared, Cell("p", "must be"), Cell("verdict"))


def _compared(rule: Rule, decision: Decision) -> RuleRow:
    figures = [Cell(""), Cell(""), Cell("")]
    if found := _figures(rule, decision):
        ours, theirs, difference, low, high = found
        figures = [Cell(f"{ours:.4f}"), Cell(f"{theirs:.4f}"), Cell(f"{difference:+.4f}", f"{low:+.4f} to {high:+.4f}")]
    p = Cell("") if rule.figure is None else Cell(shown_p(rule.figure), _needed(rule))
    return RuleRow((Cell(rule.name), *figures, p, Cell(verdict_words(rule))), _mark(rule), rule.detail)


def _limit(rule: Rule) -> RuleRow:
    bound = rule.shown_bound
    for written, shown in SIGNS.items():
        bound = f"{shown} {bound.removeprefix(f'{written} ')}" if bound.startswith(f"{written} ") else bound
    cells = Cell(rule.name), Cell(rule.shown_figure), Cell(bound), Cell(verdict_words(rule))
    return RuleRow(cells, _mark(rule), rule.detail)


def _mark(rule: Rule) -> Literal["passed", "failed", "open"]:
    if rule.verdict == "failed":
        return "failed"
    return "passed" if rule.verdict == "passed" and rule.comparison != LOSS_TEST else "open"


def _needed(rule: Rule) -> str:
    return f"{SIGNS[rule.comparison.removeprefix('p ')]} {rule.threshold:.2g}"


def _figures(rule: Rule, decision: Decision) -> tuple[float, float, float, float, float] | None:
    """Return what a rule compared: challenger, opponent, their difference, and its interval."""
    if rule.group == 3:
        part = rule.name.partition(LIMIT)[0]
        found = next((each for each in decision.comparisons[1:] if each.name == part), None)
        # The second rule of a slice is about the same figures.
        if found is None or LIMIT in rule.name:
            return None
        return found.challenger, found.champion, found.difference, found.ci_low, found.ci_high
    if rule.figure is None:
        return None
    test: Mapping[str, Any] | None = decision.tests.get(_test(rule, decision))
    return None if test is None else tuple(test[name] for name in ("mean_a", "mean_b", "difference", "ci_low", "ci_high"))


def _test(rule: Rule, decision: Decision) -> str:
    """Return the name of the test that a rule is about."""
    if rule.name.startswith(BEATS):
        return rule.name.removeprefix(BEATS)
    if rule.name == ANCHOR:
        return "anchor"
    return "margin" if "margin" in decision.tests else "champion"
