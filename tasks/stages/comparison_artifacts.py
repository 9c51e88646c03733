"""Prefect UI artifacts of a comparison."""

from __future__ import annotations

from prefect.artifacts import create_markdown_artifact, create_table_artifact

from tasks.comparison import Comparison, headline, render_markdown, result_rows
from tasks.stages.artifacts import address_artifact

__all__ = ["show_comparison"]


def show_comparison(comparison: Comparison) -> None:
    create_markdown_artifact(render_markdown(comparison), key="comparison", description=headline(comparison))
    create_table_artifact(
        result_rows(comparison),
        key="comparison-results",
        description=f"Test requests of {comparison.dataset} under {comparison.protocol}; the reference is {comparison.reference}",
    )
    matrix = [
        {
            "better": cell.entry,
            "than": cell.other,
            "difference of NDCG@10": round(cell.difference, 4),
            "95 % interval": f"{cell.low:+.4f} to {cell.high:+.4f}",
            "p": round(cell.p_value, 4),
            "p, Holm": round(cell.adjusted, 4),
            "shown": str(cell.shown).lower(),
        }
        for cell in comparison.matrix
    ]
    create_table_artifact(
        matrix,
        key="comparison-matrix",
        description=f"Pairwise tests of which entry is better, at level {comparison.alpha:g} for all tests together",
    )
    address_artifact(comparison.page, "Report", key="comparison-report", description=headline(comparison))
