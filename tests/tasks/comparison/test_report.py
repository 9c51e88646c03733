from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import pytest

from tasks.comparison import Failure, ModelComparison, headline, render_html, render_markdown, result_rows
from tasks.comparison.figures import intervals_svg, learning_curves_svg
from tasks.comparison.results import Cell, EntryResult, Estimate, RunCurve

HOSTILE = '<script>alert(1)</script> & "x" | **y** `z` [l](http://u)'


def entry(name: str, ndcg: float, seeds: list[int], losses: bool = True, **changes: Any) -> EntryResult:
    spread = 0.01 if len(seeds) > 1 else None
    estimates = {
        metric: Estimate(value, spread, value - 0.02, value + 0.02) for metric, value in (("hr@10", 2 * ndcg), ("ndcg@10", ndcg))
    }
    curves = [RunCurve(seed, [1, 2], [2.0, 1.0] if losses else [0.0, 0.0], [ndcg / 2, ndcg], 2) for seed in seeds]
    result = EntryResult(
        name=name,
        kind="ncf" if losses else "popularity",
        preset=None,
        settings={},
        seeds=seeds,
        missing_seeds=[],
        metrics=estimates,
        beyond_accuracy={"coverage@10": 0.5},
        curves=curves,
        parameters=1234,
        devices=["cpu"],
        seconds=90.0,
        total_seconds=180.0,
        cost=None,
        git_commits=["abc"],
    )
    return replace(result, **changes)


def cell(one: str, other: str, difference: float, significant: bool) -> Cell:
    p = 0.001 if significant else 0.6
    return Cell(one, other, difference, difference - 0.01, difference + 0.01, p, p, significant)


@pytest.fixture
def comparison() -> ModelComparison:
    return ModelComparison(
        id="abc123",
        dataset="ml-100k/v1",
        protocol="loo-exact",
        requests=943,
        reference="ncf",
        alpha=0.05,
        resamples=1000,
        runner="threads",
        max_parallel=1,
        entries=[
            entry("ss4rec", 0.2, [1, 2], preset="paper", settings={"note": HOSTILE}),
            entry("ncf", 0.19, [1], missing_seeds=[2]),
            entry("popularity", 0.05, [1], losses=False),
        ],
        matrix=[
            cell("ss4rec", "ncf", 0.01, False),
            cell("ncf", "ss4rec", -0.01, False),
            cell("ss4rec", "popularity", 0.15, True),
            cell("popularity", "ss4rec", -0.15, False),
            cell("ncf", "popularity", 0.14, True),
            cell("popularity", "ncf", -0.14, False),
        ],
        failures=[Failure("ncf", 2, HOSTILE)],
        page="file:///report.html",
    )


def test_an_entry_without_a_run_is_not_called_worse(comparison: ModelComparison) -> None:
    shown = replace(comparison, matrix=[cell("ss4rec", "popularity", 0.15, True)], entries=comparison.entries[::2])
    assert headline(replace(shown, failures=[])).endswith("It is shown to be better than every other entry.")
    assert headline(shown).endswith("better than every other entry that has a run. No run of ncf ended.")


class _Page(HTMLParser):
    """Collects the tags with their attributes, and the text."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.text += " "

    def handle_data(self, data: str) -> None:
        self.text += data


def page_of(comparison: ModelComparison) -> _Page:
    page = _Page()
    page.feed(render_html(comparison).decode())
    return page


def test_the_page_shows_results_matrix_figures_and_what_failed(comparison: ModelComparison) -> None:
    page = page_of(comparison)
    text = " ".join(page.text.split())
    assert "943 test requests of ml-100k/v1" in text and headline(comparison) in text
    assert "0.2000 ± 0.0100" in text and "0.1800 to 0.2200" in text and "1 of 2" in text
    assert "+0.1500 p = 0.0010" in text and "preset paper" in text and "90.0 s" in text
    assert "Not complete: 1 run failed" in text and "ncf 2" in text
    cells = [attrs for tag, attrs in page.tags if tag == "td" and attrs.get("title")]
    assert [attrs["class"] for attrs in cells] == ["open", "better", "open", "better", "worse", "worse"]
    images = [attrs["src"] or "" for tag, attrs in page.tags if tag == "img"]
    assert len(images) == 2 and all(source.startswith("data:image/svg+xml;base64,") for source in images)


def test_a_page_without_failures_is_not_marked_as_incomplete(comparison: ModelComparison) -> None:
    assert "Not complete" not in page_of(replace(comparison, failures=[])).text


def test_the_page_escapes_whatever_it_shows_and_fetches_nothing(comparison: ModelComparison) -> None:
    html = render_html(comparison).decode()
    page = page_of(comparison)
    assert HOSTILE in " ".join(page.text.split()) and f"note={HOSTILE}" in page.text
    assert not [tag for tag, _ in page.tags if tag in ("script", "link", "iframe", "object", "a")]
    assert not re.findall(r"""(?:src|href)\s*=\s*["'](?!data:)""", html) and "@import" not in html and "url(" not in html


def test_markdown_is_escaped_and_marks_the_differences_that_are_shown(comparison: ModelComparison) -> None:
    text = render_markdown(comparison)
    assert "**Not complete: 1 run failed.**" in text and "<script>" not in text and "&lt;script&gt;" in text
    assert "\\*\\*y\\*\\* \\`z\\` \\[l\\](http" in text
    assert "| ss4rec |  | +0.0100<br>p = 0.6000 | **+0.1500**<br>**p = 0.0010** |" in text


def test_the_headline_claims_only_what_was_shown(comparison: ModelComparison) -> None:
    assert headline(comparison).endswith("It is not shown to be better than ncf.")
    sure = [replace(found, significant=True) if found.difference > 0 else found for found in comparison.matrix]
    assert headline(replace(comparison, matrix=sure)).endswith("It is shown to be better than every other entry.")
    assert "nothing to compare" in headline(replace(comparison, entries=[], matrix=[]))


def test_the_verdict_is_against_the_reference(comparison: ModelComparison) -> None:
    against = {row["entry"]: row["against the reference"] for row in result_rows(comparison)}
    assert against == {"ss4rec": "+0.0100, no difference shown", "ncf": "reference", "popularity": "-0.1400, worse"}
    popular = replace(comparison, reference="popularity")
    assert [row["against the reference"] for row in result_rows(popular)][:2] == ["+0.1500, better", "+0.1400, better"]
    gone = replace(comparison, reference="absent")
    assert {row["against the reference"] for row in result_rows(gone)} == {"the reference has no run"}


def test_a_comparison_without_any_run_still_reports_why(comparison: ModelComparison) -> None:
    empty = replace(comparison, entries=[], matrix=[], requests=0)
    assert HOSTILE in " ".join(page_of(empty).text.split()) and "nothing to compare" in render_markdown(empty)


def test_the_same_comparison_gives_the_same_figures_byte_for_byte(comparison: ModelComparison) -> None:
    for draw in (intervals_svg, learning_curves_svg):
        drawn = draw(comparison)
        assert drawn is not None and b"<svg" in drawn and drawn == draw(comparison)
    assert learning_curves_svg(replace(comparison, entries=comparison.entries[2:])) is None


def test_the_report_is_json(comparison: ModelComparison) -> None:
    kept = json.loads(json.dumps(comparison.to_dict()))
    assert kept["entries"][0]["metrics"]["ndcg@10"]["spread"] == 0.01 and kept["failures"][0]["seed"] == 2
