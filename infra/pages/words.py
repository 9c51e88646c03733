"""Numbers, times and lists in words."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

__all__ = ["count", "digits", "duration", "listed", "money", "utc_day", "utc_minute", "visible"]

KEPT = "\n\t\N{NO-BREAK SPACE}\N{ZERO WIDTH JOINER}\N{ZERO WIDTH NON-JOINER}"


def count(number: int, noun: str) -> str:
    """Return a number with its noun, in the plural unless the number is 1."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def listed(names: Sequence[str], last: str = "and") -> str:
    """Return names as a list in a sentence: "a, b and c". `last` is the word before the last name."""
    return f" {last} ".join(part for part in (", ".join(names[:-1]), *names[-1:]) if part)


def digits(value: float) -> str:
    """Format a figure for display: shares with four decimal places, counts with one."""
    return f"{value:.4f}" if abs(value) < 10 else f"{value:,.1f}"


def money(dollars: float) -> str:
    """Format USD for display, with a third decimal place for amounts below 10 cents."""
    return f"${dollars:.2f}" if dollars >= 0.1 or dollars == 0 else f"${dollars:.3f}"


def duration(seconds: float) -> str:
    """Format seconds for display."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def utc_day(second: int) -> str:
    """Format UTC seconds as a date."""
    return f"{datetime.fromtimestamp(second, UTC):%Y-%m-%d}"


def utc_minute(second: int) -> str:
    """Format UTC seconds as a date and time."""
    return f"{datetime.fromtimestamp(second, UTC):%Y-%m-%d %H:%M} UTC"


def visible(text: str) -> str:
    """Return text with its control characters written as escapes, such as \\x1b: they cannot steer a terminal or turn text around.

    Line breaks and tabs stay, and so do the joiners that some scripts and emoji need.
    """
    return "".join(char if char.isprintable() or char in KEPT else ascii(char)[1:-1] for char in text)
