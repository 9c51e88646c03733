"""The gate's decision record: what was judged, by which figures, with which verdict. JSON-able as it is."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

__all__ = [
    "ANSWERS",
    "CHAMPION_RANKED",
    "GROUPS",
    "Approval",
    "Comparison",
    "Decision",
    "Differences",
    "Outcome",
    "Rule",
    "Verdict",
]

Verdict = Literal["passed", "failed", "not applicable", "not judged"]
Outcome = Literal["promoted", "held", "needs approval"]
ANSWERS = "loads and answers as trained"  # the rule that no one may override
CHAMPION_RANKED = "the champion can be ranked"
GROUPS = {1: "floors and baselines", 2: "against the champion", 3: "slices", 4: "health", 5: "stored version"}


@dataclass(frozen=True)
class Rule:
    """One rule's figure, what it had to be, and the verdict."""

    group: int
    name: str
    figure: float | None
    threshold: float | None
    comparison: str
    verdict: Verdict
    detail: str

    @property
    def shown_figure(self) -> str:
        """The figure for people; empty where there is none."""
        if self.figure is None:
            return ""
        if self._asks:
            return "yes" if self.figure else "no"
        return f"{self.figure:.4f}" if self.comparison.startswith("p ") else f"{self.figure:.4g}"

    @property
    def shown_bound(self) -> str:
        """What the figure must be, for people; empty where nothing is asked."""
        if self._asks:
            return "yes"
        return "" if self.threshold is None else f"{self.comparison} {self.threshold:.4g}"

    @property
    def _asks(self) -> bool:
        """Whether it is a question, and its figure 1 or 0."""
        return self.comparison == "==" and self.threshold == 1.0


@dataclass(frozen=True)
class Comparison:
    """NDCG@10 of challenger and champion on the same requests: all of them, or a slice."""

    name: str
    requests: int
    challenger: float
    champion: float
    difference: float
    ci_low: float  # two-sided 95 % interval of the difference
    ci_high: float
    detectable: float  # least true gain (all requests) or loss (a slice) that is found with 80 % power


@dataclass(frozen=True)
class Differences:
    """Per-request NDCG@10 differences, challenger - champion, counted in equal bins of [-1, 1]; ties are apart."""

    counts: list[int]
    better: int
    worse: int
    tied: int


@dataclass(frozen=True)
class Approval:
    """What a person said of a challenger that passed every rule."""

    approved: bool
    who: str
    note: str
    when: str  # UTC, ISO 8601


@dataclass(frozen=True)
class Decision:
    """The decision record."""

    outcome: Outcome
    reasons: list[str]  # of a hold: one sentence for each failed rule
    model_name: str
    challenger: str
    champion: str | None
    champion_number: int
    dataset: str
    protocol: str
    requests: int
    metrics: dict[str, dict[str, float]]  # model -> metric -> value, all on the same requests
    rules: list[Rule]
    intervals: dict[str, dict[str, tuple[float, float]]] = field(default_factory=dict)  # model -> metric -> 95 % interval
    tests: dict[str, dict[str, float]] = field(default_factory=dict)
    comparisons: list[Comparison] = field(default_factory=list)  # with the champion; all requests first, then slices
    differences: Differences | None = None
    detectable_difference: float | None = None  # NDCG@10 against the champion, 80 % power
    settings: dict[str, Any] = field(default_factory=dict)  # the gate's, as they were
    approval: Approval | None = None

    @property
    def broken(self) -> str | None:
        """Why the stored version cannot be served, whatever else is found; None where it was loaded and answered in time."""
        return next((rule.detail for rule in self.rules if rule.name == ANSWERS and rule.verdict == "failed"), None)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)
