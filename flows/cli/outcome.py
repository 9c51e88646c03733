"""What a run decided, as the commands print it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flows.cli.options import say, table

if TYPE_CHECKING:
    from tasks.gate import Decision

__all__ = ["print_decision"]


def print_decision(decision: Decision) -> None:
    """Print every rule of the gate, the reasons for holding, and the warnings."""
    from tasks.gate import rule_tables

    for found in rule_tables(decision):
        say(f"\n{found.title}:")
        table(*found.lines)
    for line in [*decision.reasons, *(f"Warning: {warning}" for warning in decision.warnings)]:
        say(f"- {line}")
