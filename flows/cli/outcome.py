"""What a run decided, as the commands print it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from flows.cli.options import say, table

if TYPE_CHECKING:
    from configs.settings import RetrainSettings
    from tasks.gate import Decision
    from tasks.outcome import Answers

__all__ = ["mirror_now", "print_answers", "print_decision"]


def print_answers(decision: Decision, answers: Answers) -> None:
    """Print what a person asks first: was it promoted and why, is the data all right, and what did it cost."""
    from infra.version_names import shortened

    say("")
    yes = {"promoted": "yes", "needs approval": "not yet"}.get(decision.outcome, "no")
    for question, answer in (("promoted", f"{yes}. {answers.verdict}"), ("data", answers.data), ("cost", answers.cost)):
        say(f"{question}: {shortened(answer)}")


def mirror_now(settings: RetrainSettings) -> None:
    """Mirror the champion in MLflow's registry if the settings ask for it. For commands that change the champion without a flow."""
    if settings.tracking.mlflow_registry:
        from infra.storage import open_store
        from tasks.tracking import mirror_champion

        mirror_champion(open_store(settings.store), settings.model_name, settings.tracking, logging.getLogger("recsys"))


def print_decision(decision: Decision) -> None:
    """Print every rule of the gate, the reasons for holding, and the warnings."""
    from tasks.gate import rule_tables

    for found in rule_tables(decision):
        say(f"\n{found.title}:")
        table(*found.lines)
    for line in [*decision.reasons, *(f"Warning: {warning}" for warning in decision.warnings)]:
        say(f"- {line}")
