"""The prose in source files: comments, docstrings and other texts of Python, and the lines of templates and settings files."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

__all__ = ["FOLDERS", "Piece", "prose_of", "source_files"]

FOLDERS = ("benchmarks", "configs", "examples", "flows", "infra", "models", "serving", "tasks", "tests", "website")
ENDINGS = {".py", ".pyi", ".html", ".yaml", ".yml", ".toml", ".ini", ".lua", ".js", ".css"}
# Outside of strings and comments, a quote always begins a string. So this finds both without a parser, in a tenth of the time.
TEXTS = re.compile(
    r"""(?P<string>[rbfuRBFU]{0,2}(?:\"\"\"(?:\\.|[^\\])*?\"\"\"|'''(?:\\.|[^\\])*?'''|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'))"""
    r"|(?P<comment>\#[^\n]*)",
    re.DOTALL,
)
WORDS = re.compile(r"[A-Za-z]{2,}[,:;.]?\s+[A-Za-z]+[,:;.]?\s+[A-Za-z]")


@dataclass(frozen=True)
class Piece:
    """Text that stands together, and the number of its first line."""

    line: int
    text: str


def source_files(root: Path) -> list[Path]:
    """Return the files whose prose belongs to the project."""
    found = [path for path in root.iterdir() if path.is_file() and (path.suffix in ENDINGS or path.name == "Makefile")]
    for folder in FOLDERS:
        found += [path for path in (root / folder).rglob("*") if path.suffix in ENDINGS]
    return sorted(path for path in found if "node_modules" not in path.parts)


def prose_of(path: Path) -> Iterator[Piece]:
    """Yield the texts of a file that are sentences, or may be. Strings that Python joins are one text."""
    text = path.read_text(encoding="utf-8")
    if path.suffix not in (".py", ".pyi"):
        yield Piece(1, text)
        return
    end, line, first, kind, parts = 0, 1, 1, "", list[str]()
    for found in TEXTS.finditer(text):
        between = text[end : found.start()]
        line += between.count("\n")
        if found.lastgroup != kind or between.strip() or (kind == "comment" and between.count("\n") > 1):
            yield from _piece(first, parts)
            first, kind, parts = line, str(found.lastgroup), []
        part = found[0]
        parts.append(part.lstrip("# ") if kind == "comment" else part.lstrip("rbfuRBFU").strip("\"'"))
        if kind == "comment":
            parts.append("\n" if text[found.end() : found.end() + 1] == "\n" else "")
        line += part.count("\n")
        end = found.end()
    yield from _piece(first, parts)


def _piece(line: int, parts: list[str]) -> Iterator[Piece]:
    text = "".join(parts)
    if WORDS.search(text):
        yield Piece(line, text)
