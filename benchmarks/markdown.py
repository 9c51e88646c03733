"""Pieces of Markdown that the tables are made of."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["data", "markdown", "met"]


def markdown(head: list[str], rows: Iterable[list[str]]) -> str:
    return "\n".join([f"| {' | '.join(head)} |", "|---" * len(head) + "|", *(f"| {' | '.join(row)} |" for row in rows)])


def met(met: bool) -> str:
    return "met" if met else "**missed**"


def data(source: str, file: str | None) -> str:
    # Results without a file are older than that entry, and ML-1M was the rebuilt one then: a part of its times are estimates.
    rebuilt = source == "ml-1m" and "rebuilt" in (file or "rebuilt")
    return source.replace("ml-", "ML-").replace("k", "K").replace("1m", "1M") + (" (rebuilt)" if rebuilt else "")
