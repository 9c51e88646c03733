"""What a challenger is compared with: the champion, earlier champions, and how much trainings of its recipe differ by chance."""

from __future__ import annotations

import io
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd

from configs.errors import GateError, NotFoundError, TrainingError, VersionCorruptError
from configs.loading import read_recorded
from configs.settings import EvaluationSettings, ModelSettings
from infra.digests import sha256_of_json
from infra.registry import ModelRef, ModelRegistry, Promotion, StagedVersion
from infra.storage import Store
from models.evaluation import REPEATED, FloatArray, Split, per_request
from tasks.best_effort import LOG, attempt
from tasks.datasets import DatasetRef
from tasks.evaluation import RANKS_FILE, overlap_with, rank_version
from tasks.gate.inputs import Champion, Opponent, TrainingNoise

__all__ = [
    "MOST_RETRAININGS",
    "PRIOR_PAIRS",
    "Ground",
    "anchor_of",
    "decisions_since",
    "margin_version",
    "noise_of",
    "noise_variance",
    "pooled_noise",
    "rank_champion",
    "refuse_other_protocol",
]

YEAR = timedelta(days=365)
MOST_RETRAININGS = 25  # past versions that the noise is learnt from, the newest ones
PRIOR_PAIRS = 4  # the configured noise counts as much as this number of pairs of retrainings
LEAST_PAIRS, TRUST = 8, 0.1  # pairs that may lower the noise, and the chance that they lower it too far
LEAST_COMMON = 75  # requests that two retrainings must have in common


@dataclass(frozen=True)
class Ground:
    """What a challenger is judged on."""

    store: Store
    name: str  # of the model
    dataset: DatasetRef
    evaluation: EvaluationSettings
    parts: Split


def rank_champion(ground: Ground, ref: ModelRef, promotion: Promotion) -> Champion:
    """Rank the champion on the requests.

    Raises:
        GateError: It was trained under another protocol.
        TrainingError: The plugin of its kind cannot load it, or its scores are not finite.
        VersionCorruptError: Its files differ from those that were sealed.
    """
    refuse_other_protocol(ground.store, ref, ground.evaluation)
    overlap = overlap_with(ground.store, ref, ground.dataset, ground.evaluation)
    return Champion(
        ref.version,
        promotion.number,
        rank_version(ground.store, ref, ground.parts, ground.evaluation),
        seen_share=overlap.seen_share if overlap else None,
        learnt=overlap.learnt if overlap else None,
        fresh=overlap.fresh if overlap else None,
    )


def anchor_of(ground: Ground, current: tuple[ModelRef, Promotion] | None, days: int, now: datetime) -> Opponent | None:
    """Rank the version that was champion `days` ago. Returns None if it is the champion now, or there was none."""
    if current is None or days == 0:
        return None
    until = now - timedelta(days=days)
    try:
        reigned = [entry for entry in ModelRegistry(ground.store).history(ground.name) if _time(entry) <= until]
    except VersionCorruptError as error:
        return Opponent("unknown", fault=str(error))
    if not reigned or reigned[-1].version == current[0].version:
        return None
    return _opponent(ground, reigned[-1].version)


def margin_version(ground: Ground, current: tuple[ModelRef, Promotion] | None) -> Opponent | None:
    """Rank the version that the margin of `non-inferior` counts from. Returns None if it is the champion, or there is none.

    A promotion records it. It is the last champion that was shown to be better, that was the first, or that a person chose.
    """
    if current is None:
        return None
    ref, promotion = current
    version = promotion.decision.get("margin_from")
    return None if version in (None, ref.version) else _opponent(ground, str(version))


def decisions_since(registry: ModelRegistry, staged: StagedVersion, now: datetime) -> int:
    """Return how many other versions of the model were made in the year before `now`."""
    since = f"{now - YEAR:%Y%m%dT%H%M%SZ}"
    return sum(since <= version.partition("-")[0] for version in registry.version_names(staged.name) if version != staged.version)


def noise_of(ground: Ground, kind: str, models: ModelSettings, version: str, prior: float) -> TrainingNoise:
    """Return how much trainings of the recipe differ: the configured noise, corrected by past retrainings.

    Two consecutive versions of one recipe are compared on the requests that they have in common. Their mean difference varies more
    than the differences between the requests explain; the rest is the noise of training. Consecutive ones are compared because a
    trend of the data then hardly counts.

    Args:
        ground: What the challenger is judged on.
        kind: Kind of its model.
        models: Settings of the models, which with the protocol are the recipe.
        version: The challenger, which is left out.
        prior: The configured noise. 0 turns the correction off.
    """
    if prior == 0:
        return TrainingNoise(0.0)
    pairs = attempt("The noise of past retrainings", _past_pairs, LOG, ground, kind, models, version)
    return pooled_noise(prior, pairs or [])


def pooled_noise(prior: float, pairs: list[tuple[FloatArray, FloatArray]]) -> TrainingNoise:
    """Correct `prior` by pairs of retrainings: NDCG@10 of both on the requests that they have in common."""
    squares, errors = [], []
    for one, other in pairs:
        differences, level = one - other, float(np.mean([one.mean(), other.mean()]))
        squares.append((float(differences.mean()) / level) ** 2)
        errors.append(float(differences.var(ddof=1)) / len(differences) / level**2)
    variance = noise_variance(prior**2, np.array(squares), np.array(errors))
    return TrainingNoise(float(np.sqrt(variance)), len(pairs))


def noise_variance(prior: float, squares: FloatArray, errors: FloatArray) -> FloatArray:
    """Return the variance of a training's quality, from differences between consecutive retrainings.

    It is raised to the pooled estimate, in which the prior counts as `PRIOR_PAIRS` pairs. It is lowered only to a value that is below
    the truth with a chance of `TRUST`, and from `LEAST_PAIRS` pairs on: few pairs often show too little noise by chance, and a test
    that believes them promotes by luck (`benchmarks.pipeline.gate_years`).

    Args:
        prior: The configured variance.
        squares: Squared mean differences of N pairs, (N,) or (N, Y).
        errors: Variance of each mean difference that the differences between requests explain, of the same shape.

    Returns:
        The variance, a number or (Y,).
    """
    pairs = len(squares)
    # A difference has the variance of two trainings, besides the error over requests.
    raised = (PRIOR_PAIRS * prior + (squares - errors).sum(axis=0) / 2) / (PRIOR_PAIRS + pairs)
    found: FloatArray = np.maximum(prior, raised)
    if pairs < LEAST_PAIRS:
        return found
    from scipy.stats import chi2

    freedom = 2 / 3 * pairs  # consecutive differences share a training, and count as two thirds of independent ones
    most = squares.mean(axis=0) * freedom / chi2.ppf(TRUST, freedom)
    lowered = np.maximum(0.0, most - errors.mean(axis=0)) / 2
    corrected: FloatArray = np.where(lowered < prior, lowered, found)
    return corrected


def _past_pairs(ground: Ground, kind: str, models: ModelSettings, version: str) -> list[tuple[FloatArray, FloatArray]]:
    registry, wanted = ModelRegistry(ground.store), _recipe(kind, ground.evaluation.protocol_id, models)
    names = [name for name in registry.version_names(ground.name) if name != version][-MOST_RETRAININGS:]
    pairs, before = [], None
    for name in names:
        try:
            lineage = registry.manifest(ground.name, name)["lineage"]
            own = ModelSettings.of_version(lineage["settings"]["models"])
            if _recipe(lineage["kind"], lineage["protocol"].removesuffix(f";{REPEATED}"), own) != wanted:
                continue
            found = _stored_ndcg(registry, registry.version(ground.name, name), kind)
        except (ValueError, KeyError, NotFoundError, VersionCorruptError):  # of an earlier version of this project, or damaged
            continue
        if before is not None:
            both = pd.concat([before, found], axis=1, join="inner").to_numpy()
            if len(both) >= LEAST_COMMON and both.any() and not np.array_equal(both[:, 0], both[:, 1]):
                pairs.append((both[:, 0], both[:, 1]))
        before = found
    return pairs


def _recipe(kind: str, protocol: str, models: ModelSettings) -> str:
    own = models.of(kind)
    return sha256_of_json([kind, protocol, None if own is None else own.model_dump(mode="json")])


def _stored_ndcg(registry: ModelRegistry, ref: ModelRef, kind: str) -> pd.Series[Any]:
    """Return the stored NDCG@10 of a version by user and target."""
    content = registry.read_file(ref, RANKS_FILE)
    if content is None:
        raise KeyError(RANKS_FILE)
    frame = pd.read_parquet(io.BytesIO(content), columns=["user_id", "target", f"rank_{kind}"])
    index = pd.MultiIndex.from_frame(frame[["user_id", "target"]])
    values = pd.Series(per_request(frame[f"rank_{kind}"].to_numpy(), "ndcg", 10), index=index)
    return values[~index.duplicated()]


def _opponent(ground: Ground, version: str) -> Opponent:
    """Rank an earlier champion, or say why that is not possible."""
    try:
        ref = ModelRegistry(ground.store).version(ground.name, version)
        refuse_other_protocol(ground.store, ref, ground.evaluation)
        overlap = overlap_with(ground.store, ref, ground.dataset, ground.evaluation)
        ranking = rank_version(ground.store, ref, ground.parts, ground.evaluation)
    except (GateError, NotFoundError, TrainingError, VersionCorruptError) as error:
        return Opponent(version, fault=str(error))
    return Opponent(version, ranking, learnt=overlap.learnt if overlap else None)


def refuse_other_protocol(store: Store, ref: ModelRef, ours: EvaluationSettings) -> None:
    """Check that a champion has the train part of `ours`. Raises GateError if it was trained under another protocol."""
    manifest = ModelRegistry(store).manifest(ref.name, ref.version)
    own = read_recorded(EvaluationSettings, manifest["lineage"]["settings"]["evaluation"], f"The version {ref.version}")
    if own.train_id != ours.train_id:
        raise GateError(
            f"The champion {ref.version} was trained under {own.train_id}, but this run evaluates under {ours.train_id}: "
            f"the train part of one contains test events of the other. Set evaluation to {own.train_id}, or give this run "
            "another model_name."
        )


def _time(entry: Promotion) -> datetime:
    return datetime.fromisoformat(entry.when)
