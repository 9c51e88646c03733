"""Settings of SS4Rec for unit tests, whose figures should not follow the defaults of the product."""

from __future__ import annotations

from typing import Any

__all__ = ["PLAIN"]

PLAIN: dict[str, Any] = {
    "dropout": 0.4, "embedding_dropout": 0.3, "interval_embedding": False, "step_min": 0.001, "learning_rate": 3e-3,
    "warm_up": 0.0, "schedule": "constant",
}  # fmt: skip
