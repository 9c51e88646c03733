"""The gate's decision record: what was judged, the figures, and the verdicts. It can be serialised to JSON directly."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from tasks.evaluation import Refit, ServedWindow
    from tasks.training import Began

__all__ = [
    "ANCHOR",
    "ANSWERS",
    "BEATS",
    "CHAMPION_RANKED",
    "GROUPS",
    "LIMIT",
    "LOAD_TIME",
    "REQUEST_TIME",
    "Approval",
    "Decision",
    "Differences",
    "Outcome",
    "Rule",
    "RuleComparison",
    "Verdict",
    "shown_p",
]

Verdict = Literal["passed", "failed", "not applicable", "not judged"]
Outcome = Literal["promoted", "held", "needs approval", "not judged"]
"""`not judged`: the machine cut off the check of the stored version, so nothing is known about it."""
ANSWERS = "loads and answers as trained"  # the only rule that a forced promotion cannot override
LOAD_TIME, REQUEST_TIME = "seconds to load", "seconds for a request"  # of CPU time: a busy machine changes no verdict
CHAMPION_RANKED = "the champion can be ranked"
ANCHOR = "not below the earlier champion"
BEATS, LIMIT = "beats ", ": no loss of "  # what precedes the name of a baseline, and what follows that of a slice
GROUPS = {1: "floors and baselines", 2: "against the champion", 3: "slices", 4: "health", 5: "stored version"}


def shown_p(p: float) -> str:
    """Format a p-value with two significant digits below .01, without an exponent."""
    if p >= 0.01:
        return f"{p:.4f}"
    if p < 1e-6:
        return "below 0.000001"
    return f"{p:.{1 - math.floor(math.log10(p))}f}".rstrip("0")


@dataclass(frozen=True)
class Rule:
    """One rule with its figure, its threshold and its verdict."""

    group: int
    name: str
    figure: float | None
    threshold: float | None
    comparison: str
    verdict: Verdict
    detail: str

    @property
    def shown_figure(self) -> str:
        """The figure formatted for display, or an empty string if there is none."""
        if self.figure is None:
            return ""
        if self._asks:
            return "yes" if self.figure else "no"
        return shown_p(self.figure) if self.comparison.startswith("p ") else f"{self.figure:.4g}"

    @property
    def shown_bound(self) -> str:
        """The required value formatted for display, or an empty string if nothing is required."""
        if self._asks:
            return "yes"
        return "" if self.threshold is None else f"{self.comparison} {self.threshold:.4g}"

    @property
    def _asks(self) -> bool:
        """Whether the rule is a yes/no question, with the figure 1 or 0."""
        return self.comparison == "==" and self.threshold == 1.0


@dataclass(frozen=True)
class RuleComparison:
    """NDCG@10 of challenger and champion on the same requests, either all of them or one slice."""

    name: str
    requests: int
    challenger: float
    champion: float
    difference: float
    ci_low: float  # two-sided 95 % interval of the difference
    ci_high: float
    detectable: float  # smallest true gain (all requests) or loss (a slice) that is detected with 80 % power
    detectable_share: float | None = None  # the same as a share of the champion's figure


@dataclass(frozen=True)
class Differences:
    """Histogram of per-request NDCG@10 differences, challenger - champion, in equal bins over [-1, 1], without ties."""

    counts: list[int]
    better: int
    worse: int
    tied: int


@dataclass(frozen=True)
class Approval:
    """A person's decision on a challenger that passed every rule."""

    approved: bool
    who: str
    note: str
    when: str  # UTC, ISO 8601


@dataclass(frozen=True)
class Decision:
    """The gate's decision on one challenger."""

    outcome: Outcome
    reasons: list[str]  # if held or not judged: one sentence for each rule that is to blame
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
    comparisons: list[RuleComparison] = field(default_factory=list)  # against the champion; all requests first, then slices
    differences: Differences | None = None
    detectable_difference: float | None = None  # NDCG@10 gain over the champion that is detected with 80 % power
    served_window: ServedWindow | None = None  # None if servers read the same events, or it could not be measured
    settings: dict[str, Any] = field(default_factory=dict)  # settings of the gate at the time
    approval: Approval | None = None
    warnings: list[str] = field(default_factory=list)  # what the decision cannot vouch for, one sentence each
    level: float | None = None  # significance level of the comparison with the champion
    training_noise: float | None = None  # standard deviation of NDCG@10 between trainings of the recipe, as a share of NDCG@10
    past_retrainings: int = 0  # pairs of past retrainings that the noise was corrected by
    fresh_requests: int | None = None  # requests whose target event is not in the champion's dataset
    excluded_requests: int = 0  # requests that are not compared, because the champion has learnt their user and item
    anchor: str | None = None  # the champion of `promotion.anchor_days` ago, if it was compared
    refit: Refit | None = None  # the training on all events, after the gate accepted the challenger; None if there was none
    began: Began | None = None  # how the challenger's training began; None: from scratch, as each one without warm starts
    margin_from: str | None = None  # version that the margin of a later `non-inferior` decision counts from, if this is promoted

    @property
    def broken(self) -> str | None:
        """Why the stored version cannot be served, or None if it was loaded and answered right, or could not be checked.

        The verdicts of the other rules do not matter, not even of those that say how slow it is.
        """
        return next((rule.detail for rule in self.rules if rule.name == ANSWERS and rule.verdict == "failed"), None)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)
