"""The report of a comparison, as a self-contained HTML page and as Markdown."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from infra.pages import (
    GREEN,
    RED,
    count,
    data_uri,
    duration,
    escaped,
    folded,
    listed,
    markdown_table,
    money,
    render_template,
    tint,
)
from tasks.comparison.figures import colours, intervals_svg, learning_curves_svg
from tasks.comparison.results import Cell, EntryResult, ModelComparison

__all__ = ["RESULT_COLUMNS", "headline", "render_html", "render_markdown", "result_rows"]

SHOWN, CELL = ("entry", "NDCG@10", "95 % interval", "against the reference", "cost"), 20  # what fits a page of the Prefect UI
TEMPLATE = "tasks/comparison/templates/comparison.html"
RESULT_COLUMNS = ("entry", "HR@10", "NDCG@10", "95 % interval", "against the reference", "seeds", "time of a run", "cost")


@dataclass(frozen=True)
class MatrixCell:
    """A cell of the heat map, formatted for the page."""

    difference: str
    p: str
    detail: str
    background: str
    standing: str  # better, worse, open


def headline(comparison: ModelComparison) -> str:
    """Summarise the comparison in at most two sentences."""
    if not comparison.entries:
        return "No run ended, so there is nothing to compare."
    best = comparison.entries[0]
    found = best.metrics["ndcg@10"]
    said = f"{best.name} has the highest NDCG@10, {found.mean:.4f} ({found.low:.4f} to {found.high:.4f})."
    cells = [comparison.cell(best.name, entry.name) for entry in comparison.entries[1:]]
    close = [cell.other for cell in cells if cell is not None and not cell.significant]
    runless = sorted({failed.entry for failed in comparison.failures} - {entry.name for entry in comparison.entries})
    if not cells:
        return said
    if not close:
        but = f" that has a run. No run of {listed(runless, 'or')} ended." if runless else "."
        return f"{said} It is shown to be better than every other entry{but}"
    return f"{said} It is not shown to be better than {listed(close, 'or')}."


def result_rows(comparison: ModelComparison) -> list[dict[str, str]]:
    """Return one row per entry with the keys RESULT_COLUMNS, best entry first."""
    return [_result_row(comparison, entry) for entry in comparison.entries]


def render_markdown(comparison: ModelComparison, links: str = "") -> str:
    """Render the report as Markdown for the Prefect UI. `links` are lines that lead to its page."""
    lines = [f"## Comparison {escaped(comparison.id)}", "", escaped(headline(comparison)), "", *([links, ""] if links else [])]
    if comparison.failures:
        lines += [f"**Not complete: {count(len(comparison.failures), 'run')} failed.**", ""]
        lines += [f"- {escaped(f'{failed.entry} seed {failed.seed}: {failed.reason}')}" for failed in comparison.failures]
        lines.append("")
    lines += [
        f"{comparison.requests:,} test requests of {escaped(comparison.dataset)} under "
        f"{escaped(comparison.protocol)}, full ranking.",
        "",
        markdown_table(SHOWN, ([folded(row[name], CELL) for name in SHOWN] for row in result_rows(comparison))),
        "",
        "Is the row's NDCG@10 higher than the column's? Difference and Holm-corrected p; bold if significant at "
        f"{comparison.alpha:g}.",
        "",
    ]
    names = [entry.name for entry in comparison.entries]
    rows = [[folded(name, CELL), *(_cell_text(comparison.cell(name, other)) for other in names)] for name in names]
    return "\n".join([*lines, markdown_table(["", *(folded(name, CELL) for name in names)], rows)]) + "\n"


def render_html(comparison: ModelComparison) -> bytes:
    """Render the report as one HTML page. All values are escaped."""
    names = [entry.name for entry in comparison.entries]
    curves = learning_curves_svg(comparison) if names else None
    return render_template(
        TEMPLATE,
        comparison=comparison,
        headline=headline(comparison),
        failures=[asdict(failure) for failure in comparison.failures],
        rows=result_rows(comparison),
        marks=["strong" if place == 0 else "" for place in range(len(names))],
        colours=colours(comparison),
        names=names,
        matrix={name: [_matrix_cell(comparison, name, other) for other in names] for name in names},
        metrics=list(comparison.entries[0].metrics) if names else [],
        beyond=list(comparison.entries[0].beyond_accuracy) if names else [],
        intervals=data_uri(intervals_svg(comparison)) if names else None,
        curves=None if curves is None else data_uri(curves),
        commits=sorted({str(commit) for entry in comparison.entries for commit in entry.git_commits}),
        devices=sorted({device for entry in comparison.entries for device in entry.devices}),
        estimate=_estimate,
    ).encode()


def _result_row(comparison: ModelComparison, entry: EntryResult) -> dict[str, str]:
    ndcg = entry.metrics["ndcg@10"]
    cell = comparison.cell(entry.name, comparison.reference)
    verdict = comparison.verdict(entry.name)
    against = verdict if cell is None else f"{cell.difference:+.4f}, {verdict}"
    wanted = len(entry.seeds) + len(entry.missing_seeds)
    values = (
        entry.name,
        _estimate(entry, "hr@10"),
        _estimate(entry, "ndcg@10"),
        f"{ndcg.low:.4f} to {ndcg.high:.4f}",
        against,
        f"{len(entry.seeds)} of {wanted}" if entry.missing_seeds else f"{wanted}",
        duration(entry.seconds),
        "unknown" if entry.cost is None else money(entry.cost),
    )
    return dict(zip(RESULT_COLUMNS, values, strict=True))


def _estimate(entry: EntryResult, metric: str) -> str:
    found = entry.metrics[metric]
    return f"{found.mean:.4f}" + ("" if found.spread is None else f" ± {found.spread:.4f}")


def _matrix_cell(comparison: ModelComparison, entry: str, other: str) -> MatrixCell | None:
    cell = comparison.cell(entry, other)
    if cell is None:
        return None
    mirrored = comparison.cell(other, entry)
    standing = "better" if cell.significant else "worse" if mirrored is not None and mirrored.significant else "open"
    greatest = max(abs(each.difference) for each in comparison.matrix) or 1.0
    strength = 0.07 if standing == "open" else 0.15 + 0.5 * abs(cell.difference) / greatest
    background = tint(GREEN if cell.difference > 0 else RED, strength)
    detail = (
        f"{cell.entry} - {cell.other}: {cell.difference:+.4f} (95 % {cell.low:+.4f} to {cell.high:+.4f}), "
        f"p = {cell.p_value:.4f}, Holm-corrected {cell.adjusted:.4f}"
    )
    return MatrixCell(f"{cell.difference:+.4f}", f"p = {cell.adjusted:.4f}", detail, background, standing)


def _cell_text(cell: Cell | None) -> str:
    if cell is None:
        return ""
    lines = f"{cell.difference:+.4f}", f"p = {cell.adjusted:.4f}"
    return "<br>".join(f"**{line}**" if cell.significant else line for line in lines)
