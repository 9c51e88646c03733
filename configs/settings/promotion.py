"""The rules of the gate."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from configs.base import Settings, Share
from configs.significance import StatisticsSettings

__all__ = ["FloorSettings", "PromotionSettings"]


class FloorSettings(Settings):
    """Minimum test metrics under the gate's protocol."""

    hr_at_10: Share = 0.10
    """Minimum HR@10. A challenger below it is held."""
    ndcg_at_10: Share = 0.05
    """Minimum NDCG@10. A challenger below it is held."""


class PromotionSettings(StatisticsSettings):
    """The rules of the gate."""

    floors: FloorSettings = FloorSettings()
    baselines: tuple[Literal["popularity", "ncf"], ...] = ("popularity", "ncf")
    """Baselines of the same run that a challenger must beat on NDCG@10."""
    approval: Literal["automatic", "manual"] = "automatic"
    """`automatic`: a challenger that passes every rule is promoted. `manual`: a person must also approve it, in the run
    (`approval_wait_s`) or later with `recsys model promote`."""
    approval_wait_s: int = Field(default=0, ge=0)
    """Seconds that a run with `manual` approval stays paused in the Prefect UI, with a form to approve or reject. 0 does not
    wait. If nobody answers, the version stays stored and is not promoted."""
    rule: Literal["better", "non-inferior"] = "better"
    """Comparison with the champion. `better`: the challenger's NDCG@10 must be higher with p < alpha. `non-inferior`: it must not
    be lower by the margin."""
    margin: Share = 0.02
    """Relative loss of NDCG@10 that `non-inferior` allows."""
    slice_margin: Share = 0.10
    """Relative loss of NDCG@10 that is tolerated in each slice (Holm-corrected over the slices)."""
    min_slice_requests: int = Field(default=50, ge=2)
    """Minimum number of requests of a slice. A smaller slice is reported but not judged."""
    max_retries_on_conflict: int = Field(default=3, ge=1)
    """Maximum number of attempts to promote a challenger, including the first. It is judged again if another version was promoted
    in the meantime."""
    max_seen_share: Share = 0.01
    """Maximum share of test events that the champion was trained or selected on. Above it, the champion would be scored on events
    that it has already learnt."""
    min_known_targets: Share = 0.99
    """Minimum share of the targets in the catalogue that the challenger can recommend."""
    min_coverage: Share = 0.02
    """Minimum share of the catalogue that appears in any top 10."""
    max_gini: Share = 0.99
    """Maximum Gini index of the recommendation counts in the top 10."""
    max_load_s: float = Field(default=60.0, gt=0)
    """Maximum number of seconds of CPU time for a clean process to load the version. A slower version is held, but its promotion can
    be forced; a rollback to it warns. The check is ended after five times as long, and a minute, for a version that hangs."""
    max_request_s: float = Field(default=1.0, gt=0)
    """Maximum number of seconds of CPU time for a sample request in that process: the median of all, on one thread. A slower version
    is held, but its promotion can be forced; a rollback to it warns."""
    sample_requests: int = Field(default=32, ge=1)
    """Number of holdout requests that the clean process answers."""
