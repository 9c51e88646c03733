"""The rules of the gate, and how a version that passed them takes over from the champion before."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Any, Literal

from pydantic import Field, model_validator

from configs.base import Settings, Share
from configs.renames import section_with_current_names
from configs.significance import StatisticsSettings, least_resamples

__all__ = ["SLICES", "FloorSettings", "PromotionSettings", "RolloutSettings"]

SLICES = 6
"""Number of slices of requests that are judged, and that share the significance level (`models.evaluation.slices`)."""


USUAL_FLOORS = {"hr": 0.10, "ndcg": 0.05}
TIMES_CHANCE = 40.0
USUAL_COVERAGE = 0.02
USUAL_GINI = 0.99
LEAST_EVENNESS = 0.03


class FloorSettings(Settings):
    """Minimum test metrics under the gate's protocol."""

    hr_at_10: Share | None = None
    """Minimum HR@10. A challenger below it is held. If empty, it is 0.10, but at most 40 times what a random order of the catalogue
    reaches. So it is lower if the catalogue has more than 4,000 items."""
    ndcg_at_10: Share | None = None
    """Minimum NDCG@10. A challenger below it is held. If empty, it is 0.05, but at most 40 times what a random order reaches."""

    def at(self, items: int) -> dict[str, float]:
        """Return the floors of hr@10 and ndcg@10 for a catalogue of `items` items."""
        shown = min(10, items)
        by_chance = {
            "hr": shown / max(items, 1),
            "ndcg": sum(1 / math.log2(1 + rank) for rank in range(1, shown + 1)) / max(items, 1),
        }
        given = {"hr": self.hr_at_10, "ndcg": self.ndcg_at_10}
        derived = {name: min(USUAL_FLOORS[name], TIMES_CHANCE * chance) for name, chance in by_chance.items()}
        return {f"{name}@10": derived[name] if floor is None else floor for name, floor in given.items()}


class PromotionSettings(StatisticsSettings):
    """The rules of the gate."""

    floors: FloorSettings = FloorSettings()
    baselines: tuple[str, ...] | None = None
    """Baselines of the same run that a challenger must beat on NDCG@10. If empty, all of them."""
    min_requests: int = Field(default=75, ge=20)
    """Minimum number of requests to judge on; below it, nothing is promoted. With the defaults, 75 requests are the fewest on which
    a gain of a half is found four times out of five. On fewer, a gain that is found is most likely luck."""
    approval: Literal["automatic", "manual"] = "automatic"
    """`automatic`: a challenger that passes every rule is promoted. `manual`: a person must also approve it, in the run
    (`approval_wait_s`) or later with `recsys model promote`."""
    approval_wait_s: int = Field(default=0, ge=0)
    """Seconds that a run with `manual` approval stays paused in the Prefect UI, with a form to approve or reject. 0 does not
    wait. If nobody answers, the version stays stored and is not promoted."""
    rule: Literal["better", "non-inferior"] = "better"
    """Comparison with the champion, at the level alpha / decisions_per_year. `better`: the challenger's NDCG@10 must be higher.
    `non-inferior`: it must not be lower by the margin."""
    decisions_per_year: int = Field(default=52, ge=1)
    """Number of retrainings that are judged in a year. Each comparison with the champion may use alpha divided by this number, so
    that at most a share alpha of years has a promotion that was luck. The default is one a week."""
    training_noise: Share = 0.03
    """Standard deviation of NDCG@10 between trainings that differ by their seed only, as a share of NDCG@10, beyond what the choice
    of users explains. It is added to the uncertainty of the comparison, and is corrected by past retrainings of the same recipe. 32
    trainings on MovieLens 100K showed 2.4 %; the default is what they leave room for. 0 leaves it out: then a lucky training can be
    promoted."""
    margin: Share = 0.02
    """Relative loss of NDCG@10 that `non-inferior` allows. It counts from the last champion that was shown to be better, so small
    losses do not add up."""
    anchor_days: int = Field(default=90, ge=0)
    """The champion of this many days ago must not be shown to be better than the challenger. 0 turns this rule off."""
    slice_margin: Share = 0.10
    """Relative loss of NDCG@10 that is tolerated in each slice. A slice fails if more is shown (Holm-corrected over the slices)."""
    slice_limit: Share = 0.20
    """Relative loss of NDCG@10 that is found in four cases out of five in each slice, however few requests it has. A slice also
    fails if a loss as large cannot be ruled out with 80 % confidence. 1 turns this off."""
    min_slice_requests: int = Field(default=50, ge=2)
    """Minimum number of requests of a slice. A smaller slice is not judged, and the decision warns about it."""
    max_retries_on_conflict: int = Field(default=3, ge=1)
    """Maximum number of attempts to promote a challenger, including the first. It is judged again if another version was promoted
    in the meantime."""
    max_seen_share: Share = 0.01
    """Maximum share of test events that the champion was trained or selected on. Above it, the champion would be scored on events
    that it has already learnt."""
    min_known_targets: Share = 0.99
    """Minimum share of the targets in the catalogue that the challenger can recommend."""
    min_coverage: Share | None = None
    """Minimum share of the catalogue that appears in any top 10. If empty, it is 0.02, or 0.02 of the places in all lists if these
    are fewer than the items."""
    max_gini: Share | None = None
    """Maximum Gini index of the recommendation counts in the top 10. If empty, it is 0.99. It is higher if what users choose is so
    concentrated too: the recommendations must be 3 % as even (1 - Gini index) as the same number of random events."""
    max_rmse: float | None = Field(default=None, gt=0)
    """Maximum RMSE of the ratings that the challenger predicts for the targets of the test requests. One that predicts no ratings is
    held. If empty, ratings are shown and decide nothing."""
    max_load_s: float = Field(default=60.0, gt=0)
    """Maximum number of seconds of CPU time for a clean process to load the version. A slower version is held, but its promotion can
    be forced; a rollback to it warns. The check is ended after five times as long, and a minute, for a version that hangs."""
    max_request_s: float = Field(default=1.0, gt=0)
    """Maximum number of seconds of CPU time for a sample request in that process: the median of all, on one thread. A slower version
    is held, but its promotion can be forced; a rollback to it warns."""
    sample_requests: int = Field(default=32, ge=1)
    """Number of holdout requests that the clean process answers."""

    def least_coverage(self, items: int, places: int) -> float:
        """Return the minimum coverage of a catalogue of `items` items by lists with `places` places in all."""
        if self.min_coverage is not None:
            return self.min_coverage
        return USUAL_COVERAGE * min(1.0, places / max(items, 1))

    def most_gini(self, of_events: float | None) -> float:
        """Return the maximum Gini index.

        Args:
            of_events: Gini index of as many random events of the train part as there are places in the lists; None if unknown.
        """
        if self.max_gini is not None:
            return self.max_gini
        return USUAL_GINI if of_events is None else max(USUAL_GINI, 1 - LEAST_EVENNESS * (1 - of_events))

    @property
    def level(self) -> float:
        """Significance level of one comparison with the champion."""
        return self.alpha / self.decisions_per_year

    @property
    def least_resamples(self) -> int:
        """Fewest resamples with which every test can be significant."""
        return max(least_resamples(self.level, 1), least_resamples(self.alpha, SLICES))

    @classmethod
    def of_version(cls, stored: Mapping[str, Any], given: Collection[str] = ()) -> PromotionSettings:
        """Read the settings that are stored with a version.

        A version may have been stored before resamples had a least number. It then gets the least that works, unless somebody has
        given the number now.

        Args:
            stored: The settings.
            given: Names of those that somebody has given now.
        """
        values = section_with_current_names(cls, stored)
        if "resamples" not in given:
            found = cls.model_construct(**values)
            values["resamples"] = max(found.resamples, found.least_resamples)
        return cls.model_validate(values)

    @model_validator(mode="after")
    def _tests_can_be_significant(self) -> PromotionSettings:
        if self.resamples < self.least_resamples:
            raise ValueError(
                f"with {self.resamples} resamples nothing could be significant at alpha {self.alpha:g} with {self.decisions_per_year} "
                f"decisions_per_year and {SLICES} slices: set resamples to at least {self.least_resamples}"
            )
        return self


class RolloutSettings(Settings):
    """How a promoted version takes over: for a share of the users first, and then for all of them, or not at all.

    The promotion's entry in the log records these settings. They hold for the whole rollout, whoever watches it.
    """

    enabled: bool = False
    """Whether a promoted version is rolled out in stages. Otherwise it serves everybody at once, as does a first champion, a forced
    one, and one that was rolled back to. It is off by default, because a rollout needs a process that ends it: the deployment
    `rollout` or `recsys rollout watch`."""
    stages: tuple[Share, ...] = (0.05, 0.25, 1.0)
    """Share of the users that the new version serves at each stage. They increase, and the last one is 1."""
    bake_s: int = Field(default=3600, ge=1)
    """Seconds that each stage lasts at least, before the next one begins."""
    settle_s: int = Field(default=60, ge=0)
    """Seconds from an entry of the log until servers act on it, all at the same time. Servers must be able to read the log and to load
    a version in this time. A return to the old version does not wait."""
    look_s: float = Field(default=15.0, gt=0)
    """Seconds between two looks at what the servers have measured."""
    approval: Literal["automatic", "manual"] = "automatic"
    """`automatic`: the last stage follows by itself. `manual`: a person must approve it, in the run or with `recsys rollout advance`."""
    approval_wait_s: int = Field(default=86_400, ge=1)
    """Seconds that a run waits for the approval. After that, the rollout stays at its stage until somebody advances it."""
    alpha: float = Field(default=0.005, gt=0, lt=1)
    """Maximum share of rollouts that return although the two versions do not differ. All checks and stages share it."""
    min_users: int = Field(default=100, ge=2)
    """Minimum number of users of each version before a mean is compared."""
    max_slower_ms: float = Field(default=5.0, ge=0)
    """CPU time in milliseconds by which an answer of the new version may be slower than one of the old version."""
    max_alike: Share = 0.15
    """Share by which the lists of two users may be more alike than with the old version. A version that shows everybody the same
    covers less of the catalogue."""
    min_agreement: Share = 0.05
    """Minimum share of a list that the old version would also have shown to the same user."""

    @model_validator(mode="after")
    def _stages_lead_to_everybody(self) -> RolloutSettings:
        if len(self.stages) < 2 or self.stages[-1] != 1 or sorted({*self.stages} - {0.0}) != [*self.stages]:
            raise ValueError(
                f"stages are {', '.join(f'{share:g}' for share in self.stages)}: give two or more shares above 0 that increase, the "
                "last of which is 1"
            )
        return self
