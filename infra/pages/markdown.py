"""Markdown for the Prefect UI, the demo and documents."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from html import escape

from infra.pages.words import visible

__all__ = ["escaped", "markdown_table", "unlinked"]

MARKUP = re.compile(r"[\\`*\[\]|~$#!]|(?<!\w)_|_(?!\w)")
BLOCK = re.compile(r"^(\d*)([-+](?=\s|$)|-(?=[-\s]*$)|=(?=[=\s]*$)|(?<=\d)[.)](?=\s|$))")
"""What makes a line a list, a rule or the line above it a heading, if it is at the start."""
LINKS = {"://": "&#58;//", "@": "&#64;"}
"""Addresses that become links without any markup."""
LEADS = re.compile(
    r"(?<=!)(?=\[)|(?<=\])(?=[(\[:])|(?<=<)(?=[A-Za-z/!?])|(?<=http)(?=://)|(?<=https)(?=://)|(?<=www)(?=\.)", re.IGNORECASE
)
"""Places within what leads somewhere or loads something."""
WWW = re.compile(r"(?i)\b(www)\.")


def markdown_table(head: Sequence[str], rows: Iterable[Iterable[str]]) -> str:
    """Return a table. Its cells are Markdown: pass text from outside through `escaped`."""
    return "\n".join([_line(head), "|---" * len(head) + "|", *map(_line, rows)])


def escaped(text: str) -> str:
    """Escape text so that it is shown as written, on one line: neither Markdown nor embedded HTML reads it as markup."""
    line = escape(visible(" ".join(text.split())), quote=False)
    line = BLOCK.sub(r"\1\\\2", MARKUP.sub(r"\\\g<0>", line))
    for link, harmless in LINKS.items():
        line = line.replace(link, harmless)
    return WWW.sub(r"\1&#46;", line)


def unlinked(text: str) -> str:
    """Break links, pictures and elements in text by an invisible character, for readers of whom only some read Markdown."""
    return LEADS.sub("\N{WORD JOINER}", visible(text))


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"
