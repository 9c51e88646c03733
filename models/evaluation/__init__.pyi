from .beyond_accuracy import genres_of, gini_of_events, list_metric_intervals, list_metrics
from .by_count import popularity_level, ranks_by_count
from .off_policy import OffPolicyEstimate, UserSums, off_policy_estimates
from .protocol import ORDERINGS, REPEATED, Ordering, Split, exact_order, k_core, masks_seen, split
from .ranking import MISS, FloatArray, Ranking, metrics, per_request, per_request_metrics, rank_requests, slices
from .ratings import rating_errors, rating_intervals
from .sequential import ArmComparison, Path, compare_arms, compare_pairs, ratio_mismatch
from .significance import (
    PairedTest,
    clustered_means,
    confidence_interval,
    confidence_intervals,
    detectable_difference,
    holm,
    paired_test,
    standard_error,
)

__all__ = [
    "MISS",
    "ORDERINGS",
    "REPEATED",
    "ArmComparison",
    "FloatArray",
    "OffPolicyEstimate",
    "Ordering",
    "PairedTest",
    "Path",
    "Ranking",
    "Split",
    "UserSums",
    "clustered_means",
    "compare_arms",
    "compare_pairs",
    "confidence_interval",
    "confidence_intervals",
    "detectable_difference",
    "exact_order",
    "genres_of",
    "gini_of_events",
    "holm",
    "k_core",
    "list_metric_intervals",
    "list_metrics",
    "masks_seen",
    "metrics",
    "off_policy_estimates",
    "paired_test",
    "per_request",
    "per_request_metrics",
    "popularity_level",
    "rank_requests",
    "ranks_by_count",
    "rating_errors",
    "rating_intervals",
    "ratio_mismatch",
    "slices",
    "split",
    "standard_error",
]
