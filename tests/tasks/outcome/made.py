"""A retraining of nothing, with the decision that a test is about."""

from __future__ import annotations

from typing import Any

from infra.registry import ModelRef
from models.recommender import EpochReport
from tasks.datasets import DatasetRef, Delivery
from tasks.evaluation import Evaluation
from tasks.evaluation.business_value import Value
from tasks.gate import Decision
from tasks.monitoring import DriftResult
from tasks.outcome import Cost, Retraining
from tasks.training import Candidate

__all__ = ["DATASET", "drift", "retraining"]

DATASET = DatasetRef("small", "abc", "datasets/small/abc", "file:x", 2000, 80, 40, 946_684_800, 1_000_000_000)


def drift(verdict: Any, rows: int = 500, reasons: tuple[str, ...] = ()) -> DriftResult:
    return DriftResult(
        verdict=verdict, reasons=list(reasons), rows=rows, users=1, first=0, last=1, reference_rows=1, reference_users=1,
        unseen_user_share=0.5, alpha=0.01, checks=[],
    )  # fmt: skip


def retraining(decision: Decision, found: DriftResult | None = None, cost: Cost | None = None) -> Retraining:
    metrics = {"requests": 600.0, "hr@10": 0.4, "ndcg@10": 0.2, "mrr@10": 0.1}
    epochs = [EpochReport(number, 2, 1.0 / number, {"ndcg@10": 0.1 * number}, 1.5, number) for number in (1, 2)]
    candidate = Candidate("ncf", "folder", epochs, 2, None, 10, "cpu", 3.0, {})
    return Retraining(
        dataset=DATASET,
        delivery=Delivery(0.0, 2050, 2000, 50),
        drift=found or drift("stable"),
        candidates=[candidate],
        evaluation=Evaluation(
            decision.protocol, decision.dataset, 600, {"ncf": {"all": metrics}}, {}, {}, Value("EUR", {}, {}, [])
        ),
        decision=decision,
        version=ModelRef(
            decision.model_name, decision.challenger, "models/x", "file:x", "ab", "2026", "ncf", "small/abc", "p", "o", {}
        ),
        durations_s={"etl": 2.0, "train ncf": 63.0},
        cost=cost or Cost(65.0, device="cpu"),
    )
