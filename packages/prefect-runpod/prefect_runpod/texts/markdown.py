"""Text from outside in the Prefect UI, which reads Markdown: shown as written."""

from __future__ import annotations

import re
from html import escape

__all__ = ["escaped", "unlinked"]

MARKUP = re.compile(r"[\\`*\[\]|~$#!]|(?<!\w)_|_(?!\w)")
LEADS = re.compile(
    r"(?<=!)(?=\[)|(?<=\])(?=[(\[:])|(?<=<)(?=[A-Za-z/!?])|(?<=http)(?=://)|(?<=https)(?=://)|(?<=www)(?=\.)", re.IGNORECASE
)
"""Places within what leads somewhere or loads something. An invisible character breaks it."""
ADDRESSES = re.compile(r"(?<=http)(?=://)|(?<=https)(?=://)|(?<=www)(?=\.)|(?<=@)(?=[\w-]+\.\w)", re.IGNORECASE)


def escaped(text: str) -> str:
    """Escape text so that it is shown as written, on one line: neither Markdown nor embedded HTML reads it as markup."""
    line = MARKUP.sub(r"\\\g<0>", escape(_visible(" ".join(text.split())), quote=False))
    return ADDRESSES.sub("\N{WORD JOINER}", line)


def unlinked(text: str) -> str:
    """Break links, pictures and elements in text, for readers of whom only some read Markdown."""
    return LEADS.sub("\N{WORD JOINER}", _visible(text))


def _visible(text: str) -> str:
    return "".join(char if char.isprintable() or char in "\n\t" else ascii(char)[1:-1] for char in text)
