"""Refuse words that the style guide refuses: `python -m tests.prose.words`, a part of `make lint`.

Reads documents, and the docstrings, comments, messages and other texts of the source files. Code is not read.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import yaml

from tests.prose.documents import ROOT, pages
from tests.prose.source_text import prose_of, source_files

__all__ = ["Refusal", "Word", "main", "refusals", "words"]

LIST = Path(__file__).with_name("words.yaml")
CODE = re.compile(r"``[^`]*``|`[^`\n]*`|\{[^{}\n]*\}")
"""Inline code, and the expressions of f-strings."""
# Files that quote refused words: the list, and the tests of it.
QUOTING = ("tests/prose/words.yaml", "tests/prose/test_words.py")


@dataclass(frozen=True)
class Word:
    """What not to write, and what to write instead."""

    refused: str
    instead: str
    pattern: re.Pattern[str]


@dataclass(frozen=True)
class Refusal:
    place: str
    found: str
    word: Word

    def __str__(self) -> str:
        return (
            f"{self.place}: write {self.word.instead!r} instead of {self.found!r} (as {self.word.refused!r} in the style guide)"
        )


@cache
def words() -> tuple[Word, ...]:
    entries = yaml.safe_load(LIST.read_text(encoding="utf-8"))
    return tuple(
        Word(entry["not"], entry["but"], re.compile(entry.get("pattern") or _any_of(entry["not"]), re.IGNORECASE))
        for entry in entries
    )


def _any_of(phrases: str) -> str:
    return rf"\b(?:{'|'.join(re.escape(phrase.strip()) for phrase in phrases.split(','))})\b"


def refusals(text: str, place: str, line: int = 1) -> Iterator[Refusal]:
    """Yield every refused word of a text, with the line on which it begins."""
    read = re.sub(r"[ \t]*\n[ \t]*", "\n", CODE.sub(lambda code: re.sub(r"[^\n]", "x", code[0]), text))
    flat = read.replace("\n", " ")
    for word in words():
        for found in word.pattern.finditer(flat):
            start = line + read.count("\n", 0, found.start() + len(found[0]) - len(found[0].lstrip(" .!?:")))
            yield Refusal(f"{place}:{start}", found[0].strip(" .:!?") or found[0], word)


def main(root: Path = ROOT) -> int:
    """Print every refusal. Return 1 if there are any."""
    found = [*_in_source(root), *_in_documents()] if root == ROOT else [*_in_source(root)]
    for refusal in found:
        print(refusal)
    return 1 if found else 0


def _in_source(root: Path) -> Iterator[Refusal]:
    for path in source_files(root):
        name = path.relative_to(root).as_posix()
        if name not in QUOTING:
            for piece in prose_of(path):
                yield from refusals(piece.text, name, piece.line)


def _in_documents() -> Iterator[Refusal]:
    for page in pages():
        for paragraph in page.paragraphs:
            name, _, line = paragraph.place.rpartition(":")
            yield from refusals(paragraph.text, name, int(line))
        for heading, rows in page.tables:
            if not _is_list_of_words(rows):
                yield from refusals("\n".join(map(" | ".join, rows)), f"{page.name} (a table under {heading!r})")


def _is_list_of_words(rows: Sequence[Sequence[str]]) -> bool:
    return bool(rows) and tuple(rows[0]) == ("not", "but")


if __name__ == "__main__":
    sys.exit(main())
