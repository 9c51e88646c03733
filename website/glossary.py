"""The terms of CONTRIBUTING's glossary, explained where a page first uses them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from html import escape

__all__ = ["explained", "terms_in"]

ROW = re.compile(r"^\| \*\*(?P<terms>[^*]+)\*\* \| (?P<meaning>.+) \|$", re.MULTILINE)
TAG = re.compile(r"(<[^>]+>)")
NAME = re.compile(r"</?([a-z][a-z0-9]*)")
SKIPPED = {"a", "abbr", "button", "code", "h1", "h2", "h3", "h4", "label", "pre", "script", "strong", "style", "svg", "th"}
"""Elements whose words stay as they are."""


EVERYDAY = {
    "current",
    "description",
    "export",
    "interval",
    "part",
    "policy",
    "properties",
    "reference",
    "removal",
    "request",
    "version",
}
"""Terms that pages also use in their everyday sense. They are in the glossary only."""


def terms_in(glossary: str) -> dict[str, str]:
    """Return the terms of a glossary that pages explain, in small letters, each with its meaning as plain text."""
    found = {}
    for row in ROW.finditer(glossary):
        for term in row["terms"].split(","):
            found[term.strip().lower()] = row["meaning"].replace("`", "")
    return {term: meaning for term, meaning in found.items() if term not in EVERYDAY}


def explained(html: str, terms: Mapping[str, str]) -> str:
    """Return a page whose first use of each term shows the meaning when the pointer is over it.

    Args:
        html: The content of the page.
        terms: The terms in small letters, with their meanings.
    """
    waiting = dict(terms)
    inside: list[str] = []
    parts = TAG.split(html)
    for place, part in enumerate(parts):
        if place % 2:
            name = NAME.match(part)
            if name and name[1] in SKIPPED:
                if not part.startswith("</"):
                    inside.append(name[1])
                elif name[1] in inside:
                    inside.remove(name[1])
        elif not inside and part.strip():
            parts[place] = _with_terms(part, waiting)
    return "".join(parts)


def _with_terms(text: str, waiting: dict[str, str]) -> str:
    """Explain the terms of a text, and remove them from those that wait for their first use."""
    if not waiting:
        return text
    longest_first = sorted(waiting, key=len, reverse=True)
    known = re.compile(rf"(?<![\w@-])({'|'.join(map(re.escape, longest_first))})(?P<many>s?)(?![\w@-])", re.IGNORECASE)

    def marked(word: re.Match[str]) -> str:
        meaning = waiting.pop(word[1].lower(), None)
        return word[0] if meaning is None else f'<abbr title="{escape(meaning)}">{word[0]}</abbr>'

    return known.sub(marked, text)
