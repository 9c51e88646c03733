"""The report of a comparison, as a self-contained HTML page and as Markdown."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from dataclasses import dataclass
from html import escape
from pathlib import Path

from tasks.comparison.figures import colours, intervals_svg, learning_curves_svg
from tasks.comparison.results import Cell, Comparison, EntryResult
from tasks.evaluation import digits

__all__ = ["RESULT_COLUMNS", "headline", "render_html", "render_markdown", "result_rows"]

RESULT_COLUMNS = ("entry", "HR@10", "NDCG@10", "95 % interval", "against the reference", "seeds", "time of a run", "cost")


@dataclass(frozen=True)
class MatrixCell:
    """A cell of the heat map, formatted for the page."""

    difference: str
    p: str
    detail: str
    background: str
    standing: str  # better, worse, open


def headline(comparison: Comparison) -> str:
    """Summarise the comparison in at most two sentences."""
    if not comparison.entries:
        return "No run ended, so there is nothing to compare."
    best = comparison.entries[0]
    found = best.metrics["ndcg@10"]
    said = f"{best.name} has the highest NDCG@10, {found.mean:.4f} ({found.low:.4f} to {found.high:.4f})."
    cells = [comparison.cell(best.name, entry.name) for entry in comparison.entries[1:]]
    close = [cell.other for cell in cells if cell is not None and not cell.shown]
    if not cells:
        return said
    if not close:
        return f"{said} It is shown to be better than every other entry."
    return f"{said} It is not shown to be better than {_listed(close)}."


def result_rows(comparison: Comparison) -> list[dict[str, str]]:
    """Return one row per entry with the keys RESULT_COLUMNS, best entry first."""
    return [_result_row(comparison, entry) for entry in comparison.entries]


def render_markdown(comparison: Comparison) -> str:
    """Render the report as Markdown for the Prefect UI."""
    lines = [f"## Comparison {comparison.id}", "", _escaped(headline(comparison)), ""]
    if comparison.failures:
        lines += [f"**Not complete: {_count(len(comparison.failures), 'run')} failed.**", ""]
        lines += [f"- {_escaped(f'{failed.entry} seed {failed.seed}: {failed.reason}')}" for failed in comparison.failures]
        lines.append("")
    lines += [
        f"{comparison.requests:,} test requests of {_escaped(comparison.dataset)} under "
        f"{_escaped(comparison.protocol)}, full ranking.",
        "",
        _markdown_row(RESULT_COLUMNS),
        "|---" * len(RESULT_COLUMNS) + "|",
        *[_markdown_row([_escaped(value) for value in row.values()]) for row in result_rows(comparison)],
        "",
        "Is the row's NDCG@10 higher than the column's? Difference and Holm-corrected p; bold if significant at "
        f"{comparison.alpha:g}.",
        "",
    ]
    names = [entry.name for entry in comparison.entries]
    lines += [_markdown_row(["", *names]), "|---" * (len(names) + 1) + "|"]
    for name in names:
        cells = [comparison.cell(name, other) for other in names]
        lines.append(_markdown_row([name, *[_cell_text(cell) for cell in cells]]))
    return "\n".join(lines) + "\n"


def render_html(comparison: Comparison) -> bytes:
    """Render the report as one HTML page. All values are escaped."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["digits"] = digits
    names = [entry.name for entry in comparison.entries]
    curves = learning_curves_svg(comparison) if names else None
    page = environment.get_template("comparison.html").render(
        comparison=comparison,
        headline=headline(comparison),
        columns=RESULT_COLUMNS,
        rows=result_rows(comparison),
        colours=colours(comparison),
        names=names,
        matrix={name: [_matrix_cell(comparison, name, other) for other in names] for name in names},
        metrics=list(comparison.entries[0].metrics) if names else [],
        beyond=list(comparison.entries[0].beyond_accuracy) if names else [],
        intervals=_inline(intervals_svg(comparison)) if names else None,
        curves=None if curves is None else _inline(curves),
        commits=sorted({str(commit) for entry in comparison.entries for commit in entry.git_commits}),
        devices=sorted({device for entry in comparison.entries for device in entry.devices}),
        duration=duration,
    )
    return page.encode()


def duration(seconds: float) -> str:
    """Format seconds for display."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _result_row(comparison: Comparison, entry: EntryResult) -> dict[str, str]:
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
        "unknown" if entry.cost is None else f"${entry.cost:.2f}",
    )
    return dict(zip(RESULT_COLUMNS, values, strict=True))


def _estimate(entry: EntryResult, metric: str) -> str:
    found = entry.metrics[metric]
    return f"{found.mean:.4f}" + ("" if found.spread is None else f" ± {found.spread:.4f}")


def _matrix_cell(comparison: Comparison, entry: str, other: str) -> MatrixCell | None:
    cell = comparison.cell(entry, other)
    if cell is None:
        return None
    mirrored = comparison.cell(other, entry)
    standing = "better" if cell.shown else "worse" if mirrored is not None and mirrored.shown else "open"
    greatest = max(abs(each.difference) for each in comparison.matrix) or 1.0
    strength = 0.07 if standing == "open" else 0.15 + 0.5 * abs(cell.difference) / greatest
    colour = "47, 125, 91" if cell.difference > 0 else "181, 83, 60"
    detail = (
        f"{cell.entry} - {cell.other}: {cell.difference:+.4f} (95 % {cell.low:+.4f} to {cell.high:+.4f}), "
        f"p = {cell.p_value:.4f}, Holm-corrected {cell.adjusted:.4f}"
    )
    return MatrixCell(f"{cell.difference:+.4f}", f"p = {cell.adjusted:.4f}", detail, f"rgba({colour}, {strength:.2f})", standing)


def _cell_text(cell: Cell | None) -> str:
    if cell is None:
        return ""
    text = f"{cell.difference:+.4f}, p = {cell.adjusted:.4f}"
    return f"**{text}**" if cell.shown else text


def _inline(svg: bytes) -> str:
    return f"data:image/svg+xml;base64,{base64.b64encode(svg).decode()}"


def _markdown_row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _escaped(text: str) -> str:
    """Escape text so that neither Markdown nor embedded HTML interprets it as markup."""
    return (
        escape(" ".join(text.split()), quote=False)
        .replace("|", "\\|")
        .replace("*", "\\*")
        .replace("`", "\\`")
        .replace("[", "\\[")
    )


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
