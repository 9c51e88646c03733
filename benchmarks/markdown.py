"""Cells that several Markdown tables have in common."""

from __future__ import annotations

__all__ = ["data", "met"]


def met(met: bool) -> str:
    return "met" if met else "**missed**"


def data(source: str, file: str | None) -> str:
    # Results without a file predate that entry. ML-1M was always the rebuilt one then: some of its times are estimates.
    rebuilt = source == "ml-1m" and "rebuilt" in (file or "rebuilt")
    return source.replace("ml-", "ML-").replace("k", "K").replace("1m", "1M") + (" (rebuilt)" if rebuilt else "")
