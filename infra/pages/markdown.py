"""Markdown for the Prefect UI and for documents."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

__all__ = ["escaped", "markdown_table"]

MARKUP = "|*`[$"


def markdown_table(head: Sequence[str], rows: Iterable[Iterable[str]]) -> str:
    """Return a table. Its cells are Markdown: pass text from outside through `escaped`."""
    return "\n".join([_line(head), "|---" * len(head) + "|", *map(_line, rows)])


def escaped(text: str) -> str:
    """Escape text so that neither Markdown nor embedded HTML interprets it as markup."""
    plain = escape(" ".join(text.split()), quote=False)
    return "".join(f"\\{letter}" if letter in MARKUP else letter for letter in plain)


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"
