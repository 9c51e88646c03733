"""Shell blocks as commands: what a page says between comments, one line each."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass

from tests.prose.documents import Block

__all__ = ["LANGUAGES", "Command", "commands_of"]

LANGUAGES = ("sh", "bash", "shell")
SUBSTITUTION = re.compile(r"\$\((?:[^()]|\([^()]*\))*\)|\$\{?\w+\}?")
SUBSTITUTED = "0f" * 24  # long enough for a key
GAP = re.compile(r"<(?P<name>[\w-]+)>")
"""What a reader fills in, such as <bucket>."""
VARIABLE = re.compile(r"[A-Za-z_]\w*=.*", re.DOTALL)
BETWEEN = {"&&", "||", ";", "|", "&"}


@dataclass(frozen=True)
class Command:
    """A program with its arguments, after substitutions got a value."""

    place: str
    line: str
    """What the page says, without the comment."""
    words: tuple[str, ...]
    variables: tuple[str, ...]
    """Assignments that precede the program, or that `export` makes."""
    behind: bool
    """Whether it goes on in the background."""

    @property
    def program(self) -> str:
        return self.words[0].rpartition("/")[2] if self.words else "export"


def commands_of(block: Block) -> Iterator[Command]:
    """Yield the commands of a shell block, in order. Lines joined by a backslash, `&&` or a pipe are several commands of one line."""
    text = re.sub(r"\\\n\s*", " ", block.text)
    for line in text.splitlines():
        lexer = shlex.shlex(GAP.sub(r"\g<name>", SUBSTITUTION.sub(SUBSTITUTED, line)), posix=True, punctuation_chars=";&|")
        lexer.whitespace_split, lexer.commenters = True, "#"
        words: list[str] = []
        for word in [*lexer, ";"]:
            if word not in BETWEEN:
                words.append(word)
            elif words:
                yield _command(block.place, line, words, word == "&")
                words = []


def _command(place: str, line: str, words: list[str], behind: bool) -> Command:
    start = 1 if words[0] == "export" else 0
    first = next((number for number in range(start, len(words)) if not VARIABLE.fullmatch(words[number])), len(words))
    return Command(place, line.strip(), tuple(words[first:]), tuple(words[start:first]), behind)
