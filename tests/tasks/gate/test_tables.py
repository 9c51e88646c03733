"""The rules of the gate as tables, which a person reads in three places."""

from __future__ import annotations

import html
import re
from dataclasses import replace

import numpy as np

from tasks.evaluation import LoadCheck
from tasks.gate import rule_tables, rules_markdown
from tasks.gate.decision import Decision, Rule
from tasks.gate.page import render_html, render_markdown
from tasks.gate.rules import decide, hold_unranked
from tasks.gate.tables import RuleRow, verdict_words
from tests.tasks.gate.test_page import HALVES, unranked
from tests.tasks.gate.test_rules import SETTINGS, USERS, inputs, ranking

WIDE = 24  # characters of the widest column that six columns leave room for in the Prefect UI


def rows(decision: Decision) -> dict[str, RuleRow]:
    return {row.cells[0].text: row for table in rule_tables(decision) for row in table.rows}


def test_each_rule_has_one_row_and_a_comparison_has_both_figures_their_difference_and_p() -> None:
    decision = decide(inputs(ranking(0.37, 3), ranking(0.4), HALVES), SETTINGS)
    found = rows(decision)
    assert [*found] == sorted({rule.name for rule in decision.rules}, key=[*found].index) and len(found) == len(decision.rules)
    overall, *slices = decision.comparisons
    for name, each in {"better than the champion": overall, **{part.name: part for part in slices}}.items():
        _, ours, theirs, difference, p, _ = found[name].cells
        assert (ours.text, theirs.text) == (f"{each.challenger:.4f}", f"{each.champion:.4f}")
        assert difference == (f"{each.difference:+.4f}", f"{each.ci_low:+.4f} to {each.ci_high:+.4f}")
        assert p.text and p.note[0] in "≤>"
    against = next(table for table in rule_tables(decision) if table.title == "Against the baselines")
    assert all(
        row.cells[2].text == f"{decision.metrics[row.cells[0].text.removeprefix('beats ')]['ndcg@10']:.4f}"
        for row in against.rows
    )
    assert found["hr@10 floor"].cells[2].text.startswith("≥ ")


def test_a_test_that_found_no_loss_has_not_passed() -> None:
    small = {"new users": np.arange(USERS) < 3, "others": np.arange(USERS) >= 3}
    found = rows(decide(inputs(ranking(0.37, 3), ranking(0.4), small), SETTINGS))
    assert found["others"].cells[-1].text == "○ no loss shown"
    assert found["new users"].cells[-1].text == "\N{EN DASH} could not be judged"
    assert found["better than the champion"].cells[-1].text == "✗ held" and found["hr@10 floor"].cells[-1].text == "✓ passed"
    assert verdict_words(Rule(3, "x", 0.001, 0.05, "p >", "failed", "")) == "✗ loss shown"
    first = rows(decide(inputs(ranking(0.4)), SETTINGS))
    assert first["better than the champion"].cells[-1].text == "\N{EN DASH} does not apply"


def test_the_page_the_artifact_and_the_terminal_have_the_same_cells() -> None:
    decision = decide(inputs(ranking(0.37, 3), ranking(0.4), HALVES), SETTINGS)
    page = html.unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", render_html(decision).decode())))
    artifact = html.unescape(render_markdown(decision).replace("<br>", " "))
    for table in rule_tables(decision):
        _, lines = table.lines
        for row, line in zip(table.rows, lines, strict=True):
            for cell, text in zip(row.cells, line, strict=True):
                for said in filter(None, cell):
                    assert said in page and said in artifact and said in text


def test_a_table_fits_the_width_of_the_prefect_ui_and_markup_in_a_name_stays_text() -> None:
    rule = Rule(3, "users of <b>the</b> far | north, and of the south", None, None, "", "not judged", "")
    decision = replace(decide(inputs(ranking(0.37, 3), ranking(0.4), HALVES), SETTINGS), rules=[rule])
    shown = rules_markdown(decision)
    assert "<b>" not in shown and "\\|" in shown
    lines = [line.strip("| ") for line in shown.splitlines() if line.startswith("| ")]
    parts = [html.unescape(part) for line in lines for cell in line.split(" | ") for part in cell.split("<br>")]
    assert max(map(len, parts)) <= WIDE


def test_a_version_without_ranks_has_its_rules_too() -> None:
    decision = hold_unranked(unranked(LoadCheck.failed("it did not load")), SETTINGS)
    assert {row.mark for row in rows(decision).values()} == {"open", "failed"}
