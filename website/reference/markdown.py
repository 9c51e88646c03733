"""Markdown of the reference pages."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from html import escape

__all__ = ["anchor", "code", "paragraphs", "prose", "table"]

CODE = re.compile(r"(`+[^`]+`+)")


def prose(text: str) -> str:
    """Return text of a docstring on one line. Words in backticks stay code, and nothing else is read as markup."""
    parts = CODE.split(" ".join(text.split()))
    return "".join(
        part if at % 2 else re.sub(r"([*_\[\]|])", r"\\\1", escape(part, quote=False)) for at, part in enumerate(parts)
    )


def paragraphs(text: str) -> str:
    """Return a docstring with its paragraphs."""
    return "\n\n".join(prose(part) for part in re.split(r"\n\s*\n", text.strip()))


def code(value: object) -> str:
    """Return a value as code."""
    return f"`{value}`"


def anchor(name: str) -> str:
    """Return an invisible target for links to a row of a table."""
    return f'<a id="{escape(name)}"></a>'


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table whose cells are Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("\n", " ") for cell in line) + " |" for line in lines)
