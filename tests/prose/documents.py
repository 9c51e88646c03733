"""The project's Markdown pages, as paragraphs that a person reads and as blocks that a person copies."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

__all__ = ["ROOT", "Block", "Page", "Paragraph", "generated_pages", "pages", "read_page"]

ROOT = Path(__file__).parents[2]
# The marks of admonitions and tabs on the site. Their content is indented, which would make it code in plain Markdown.
CONTAINER = re.compile(r"(?P<indent> *)(?:!!!|\?\?\?\+?|===)!? +\S.*")
FRONT_MATTER = re.compile(r"\A---\n.*?\n---\n", re.DOTALL)
# What a command writes between two marks, such as the tables of benchmarks and the line below each, is not read as prose.
GENERATED, END = re.compile(r"<!-- (?!end )[\w-]+: "), "<!-- end -->"
TITLE = re.compile(r"title=(?P<quote>[\"'])(?P<title>.+?)(?P=quote)")


@dataclass(frozen=True)
class Paragraph:
    """A paragraph, list item or heading: its words without code, tables and addresses."""

    place: str
    text: str
    words: str
    """The text without inline code. `text` has a short word in the place of each."""
    heading: bool = False


@dataclass(frozen=True)
class Block:
    """A code block. `language` is empty if the page does not say it."""

    place: str
    language: str
    title: str
    text: str
    above: str
    """The heading above it."""


@dataclass(frozen=True)
class Page:
    path: Path
    paragraphs: tuple[Paragraph, ...]
    blocks: tuple[Block, ...]
    tables: tuple[tuple[str, tuple[tuple[str, ...], ...]], ...]
    """The rows of each table, with the heading above it. Cells are Markdown."""
    links: tuple[str, ...]

    @property
    def name(self) -> str:
        return self.path.relative_to(ROOT).as_posix() if self.path.is_relative_to(ROOT) else self.path.name


@cache
def pages() -> tuple[Page, ...]:
    """Return the pages that are files: those of the repository and those of the site."""
    folders = (ROOT / "docs", ROOT / "examples", ROOT / ".github")
    found = [*ROOT.glob("*.md"), *(path for folder in folders for path in folder.rglob("*.md"))]
    return tuple(read_page(path) for path in sorted(found))


@cache
def generated_pages() -> tuple[Page, ...]:
    """Return the pages of the site that are made from the code, as if they were files in docs/."""
    from website.reference import PAGES

    return tuple(read_text(ROOT / "docs" / name, page()) for name, page in PAGES.items())


def read_page(path: Path) -> Page:
    return read_text(path, path.read_text(encoding="utf-8"))


def read_text(path: Path, text: str) -> Page:
    tokens = MarkdownIt("commonmark", {"html": True}).enable("table").parse(_without_containers(_without_front_matter(text)))
    name = path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else path.name
    paragraphs: list[Paragraph] = []
    blocks: list[Block] = []
    tables: list[tuple[str, tuple[tuple[str, ...], ...]]] = []
    links: list[str] = []
    rows: list[list[str]] = []
    heading, opened, generated = "", "", False
    for token in tokens:
        line = f"{name}:{token.map[0] + 1}" if token.map else name
        if token.type == "html_block":
            generated = not token.content.rstrip().endswith(END) and (generated or bool(GENERATED.match(token.content)))
        elif token.type == "table_open":
            rows = []
        elif token.type == "tr_open":
            rows.append([])
        elif token.type == "table_close":
            tables.append((heading, tuple(map(tuple, rows))))
        elif token.type in ("th_open", "td_open", "paragraph_open", "heading_open"):
            opened = token.type
        elif token.type == "inline":
            links += [str(each.attrs["href"]) for each in token.children or () if each.type == "link_open"]
            if opened in ("th_open", "td_open"):
                rows[-1].append(token.content)
                continue
            if generated:
                continue
            read = Paragraph(line, _read(token, "this"), _read(token, ""), opened == "heading_open")
            paragraphs.append(read)
            heading = read.text if read.heading else heading
        elif token.type in ("fence", "code_block"):
            language, _, attributes = token.info.strip().partition(" ")
            title = TITLE.search(attributes)
            blocks.append(Block(line, language, title["title"] if title else "", token.content, heading))
    return Page(path, tuple(paragraphs), tuple(blocks), tuple(tables), tuple(links))


def _without_front_matter(text: str) -> str:
    return FRONT_MATTER.sub(lambda found: "\n" * found[0].count("\n"), text)


def _without_containers(text: str) -> str:
    """Return the text with the content of admonitions and tabs moved to the left. The numbers of lines stay."""
    lines = text.split("\n")
    for number, line in enumerate(lines):
        if found := CONTAINER.fullmatch(line):
            inside = found["indent"] + " " * 4
            lines[number] = ""
            for below in range(number + 1, len(lines)):
                if lines[below].strip() and not lines[below].startswith(inside):
                    break
                lines[below] = lines[below].removeprefix(inside) if lines[below].strip() else ""
    return "\n".join(lines)


def _read(token: Token, code: str) -> str:
    """Return the words of a paragraph. `code` replaces inline code."""

    def parts() -> Iterator[str]:
        for each in token.children or ():
            if each.type == "text":
                yield each.content
            elif each.type == "code_inline":
                yield code
            elif each.type in ("softbreak", "hardbreak"):
                yield " "

    return re.sub(r"https?://[^\s,;)]+", code, "".join(parts())).strip()
