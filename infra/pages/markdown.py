"""Markdown for the Prefect UI, the demo and documents."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from html import escape
from textwrap import wrap

from infra.pages.figures import data_uri
from infra.pages.words import visible

__all__ = ["code_span", "escaped", "folded", "markdown_table", "picture", "unlinked"]

MARKUP = re.compile(r"[\\`*\[\]|~$#!]|(?<!\w)_|_(?!\w)")
BLOCK = re.compile(r"^(\d*)([-+](?=\s|$)|-(?=[-\s]*$)|=(?=[=\s]*$)|(?<=\d)[.)](?=\s|$))")
"""What makes a line a list, a rule or the line above it a heading, if it is at the start."""
LEADS = re.compile(
    r"(?<=!)(?=\[)|(?<=\])(?=[(\[:])|(?<=<)(?=[A-Za-z/!?])|(?<=http)(?=://)|(?<=https)(?=://)|(?<=www)(?=\.)", re.IGNORECASE
)
"""Places within what leads somewhere or loads something."""
ADDRESSES = re.compile(r"(?<=http)(?=://)|(?<=https)(?=://)|(?<=www)(?=\.)|(?<=@)(?=[\w-]+\.\w)", re.IGNORECASE)
"""Places within what becomes a link without any markup, for some readers even if it is escaped: an invisible character breaks it."""


def markdown_table(head: Sequence[str], rows: Iterable[Iterable[str]]) -> str:
    """Return a table. Its cells are Markdown: pass text from outside through `escaped`."""
    return "\n".join([_line(head), "|---" * len(head) + "|", *map(_line, rows)])


def escaped(text: str) -> str:
    """Escape text so that it is shown as written, on one line: neither Markdown nor embedded HTML reads it as markup."""
    line = escape(visible(" ".join(text.split())), quote=False)
    line = BLOCK.sub(r"\1\\\2", MARKUP.sub(r"\\\g<0>", line))
    return ADDRESSES.sub("\N{WORD JOINER}", line)


def folded(text: str, width: int) -> str:
    """Escape text like `escaped`, with a line break before a word that would make a line longer than `width` characters.

    The Prefect UI keeps a cell of a table on one line, and cuts off what is wider than the page.
    """
    return "<br>".join(escaped(line) for line in wrap(text, width, break_long_words=False, break_on_hyphens=False))


def picture(content: bytes, said: str) -> str:
    """Return a PNG or SVG as a Markdown picture that contains it. `said` describes it to those who cannot see it."""
    return f"![{escaped(said)}]({data_uri(content)})"


def code_span(text: str) -> str:
    """Return text as code on one line, such as a command to copy. No backtick in the text ends it."""
    line = visible(" ".join(text.splitlines()))
    fence = "`" * (1 + max(map(len, re.findall("`+", line)), default=0))
    edge = " " if line[:1] == "`" or line[-1:] == "`" else ""
    return f"{fence}{edge}{line}{edge}{fence}"


def unlinked(text: str) -> str:
    """Break links, pictures and elements in text by an invisible character, for readers of whom only some read Markdown."""
    return LEADS.sub("\N{WORD JOINER}", visible(text))


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"
