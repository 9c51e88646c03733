from .approval import Answer, ask_for_approval, ask_for_rollout
from .stages import (
    Clock,
    GateOutcome,
    Ranked,
    beginning_of,
    evaluate_candidates,
    judge_and_promote,
    register_unjudged,
    train_and_evaluate,
    train_and_gate,
    train_inline,
)

__all__ = [
    "Answer",
    "Clock",
    "GateOutcome",
    "Ranked",
    "ask_for_approval",
    "ask_for_rollout",
    "beginning_of",
    "evaluate_candidates",
    "judge_and_promote",
    "register_unjudged",
    "train_and_evaluate",
    "train_and_gate",
    "train_inline",
]
