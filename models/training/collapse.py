"""A training that has collapsed: its numbers are finite, and yet it has lost what it learnt, or learns nothing."""

from __future__ import annotations

from collections.abc import Sequence

from models.recommender import EpochReport

__all__ = ["collapse_of", "has_learnt"]

EPOCHS = 3  # a collapse must last this long, and is then told
FELL = 0.5  # of the run's best valid metric
NEAR = 1.1  # times the metric of a ranking by popularity
STILL = 0.01  # relative change of the loss over the epochs


def has_learnt(best: float, popularity: float | None) -> bool:
    """Return whether a valid metric is above the level of a ranking by popularity, if that is known."""
    return popularity is None or best > NEAR * popularity


def collapse_of(reports: Sequence[EpochReport], metric: str, popularity: float | None) -> str:
    """Return a sentence if the latest epochs show a collapse, or an empty text.

    Args:
        reports: All epochs so far, the newest last.
        metric: The valid metric that chooses the epoch.
        popularity: Its value for a ranking by popularity, or None if it is not known.
    """
    latest = reports[-EPOCHS:]
    if len(latest) < EPOCHS:
        return ""
    highest, best = max(report.valid[metric] for report in latest), max(reports, key=lambda report: report.valid[metric])
    name, advice = metric.replace("ndcg", "NDCG"), "Lower the learning rate, add a warm-up, or use fewer blocks."
    if highest < FELL * best.valid[metric]:
        return (
            f"Training has collapsed: valid {name} was {best.valid[metric]:.4f} in epoch {best.epoch}, and at most {highest:.4f} in the "
            f"last {EPOCHS} epochs. {advice}"
        )
    before, after = latest[0].loss, latest[-1].loss
    if popularity is not None and not has_learnt(highest, popularity) and before - after < STILL * abs(before):
        return (
            f"Training has collapsed or learns nothing yet: in the last {EPOCHS} epochs valid {name} was at most {highest:.4f}, where a ranking by popularity "
            f"has {popularity:.4f}, and the loss no longer falls. {advice}"
        )
    return ""
