"""From a trained challenger to the registry and, if the gate lets it, to the promotion log."""

from __future__ import annotations

import json
import tempfile
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from configs.errors import AlreadyExistsError, GateError
from configs.settings import EvaluationSettings, PromotionSettings, RetrainSettings
from infra.stores import Store
from models.beyond_accuracy import beyond_accuracy
from models.ranking import Ranking, per_request, slices
from tasks.candidates import Candidate, read_split
from tasks.datasets import DatasetRef, load_dataset_ref
from tasks.evaluate import Evaluation, rank_version, read_rankings
from tasks.gate import Challenger, Champion, Decision, GateInputs, decide
from tasks.load_check import LoadCheck, check_staged, check_version
from tasks.promotions import Promotion, champion, promote
from tasks.registry import ModelRef, StagedVersion, collect_lineage, fetch_version, model_ref, read_manifest, seal, stage

__all__ = ["Judged", "Published", "champion_ref", "judge", "judge_version", "promote_version", "publish", "stage_challenger"]

UNJUDGED = {"outcome": "not judged", "reasons": ["Trained without the gate; `recsys promote` judges it."]}


@dataclass(frozen=True)
class Published:
    """A sealed version, the decision on it, and the entry that made it champion, if one did."""

    version: ModelRef
    decision: Decision
    promotion: Promotion | None


@dataclass(frozen=True, eq=False)
class Judged:
    """A decision with what its figure is drawn from."""

    decision: Decision
    differences: npt.NDArray[np.float64] | None  # NDCG@10, challenger - champion, by request; None for a first model


def champion_ref(store: Store, name: str) -> tuple[ModelRef, Promotion] | None:
    """The champion and its entry in the log, or None before the first promotion."""
    promotion = champion(store, name)
    return None if promotion is None else (model_ref(store, name, promotion.version), promotion)


def stage_challenger(store: Store, name: str, folder: Path) -> StagedVersion:
    """Upload the challenger's files as a version that nothing names yet."""
    return stage(store, name, folder, datetime.now(UTC))


def judge(
    store: Store, staged: StagedVersion, folder: Path, dataset: DatasetRef, evaluation: Evaluation, settings: RetrainSettings
) -> Judged:
    """Check the staged version in a clean process and decide on it against the champion of this moment."""
    parts = read_split(store, dataset, settings.evaluation)
    rankings = read_rankings(folder, parts)
    check = check_staged(store, staged, settings.promotion)
    current = champion_ref(store, staged.name)
    inputs = GateInputs(
        model_name=staged.name,
        dataset=evaluation.dataset,
        protocol=evaluation.protocol,
        challenger=Challenger(staged.version, rankings.pop("ss4rec"), evaluation.beyond_accuracy["ss4rec"], check),
        baselines=rankings,
        champion=_rank_champion(store, current, dataset, settings.evaluation),
        slices=slices(parts.train, parts.test),
    )
    differences = None
    if inputs.champion is not None:
        ours, theirs = (per_request(r.ranks, "ndcg", 10) for r in (inputs.challenger.ranking, inputs.champion.ranking))
        differences = ours - theirs
    return Judged(decide(inputs, settings.promotion), differences)


def publish(
    store: Store,
    staged: StagedVersion,
    decision: Decision | None,
    challenger: Candidate,
    evaluation: Evaluation,
    settings: RetrainSettings,
) -> ModelRef:
    """Seal the version with its decision and lineage."""
    secret = {"store": {"access_key_id", "secret_access_key"}}
    lineage = collect_lineage(
        kind=challenger.kind,
        dataset=evaluation.dataset,
        protocol=evaluation.protocol,
        seed=settings.seed,
        settings=settings.model_dump(mode="json", exclude=secret),
        metrics=evaluation.metrics[challenger.kind]["all"],
        duration_s=round(challenger.seconds, 1),
    )
    return seal(store, staged, decision.to_dict() if decision else UNJUDGED, lineage, datetime.now(UTC))


def promote_version(store: Store, ref: ModelRef, decision: Decision, settings: PromotionSettings) -> Published:
    """Make a version champion if the gate said so. Where another promotion came first, decide again against that one."""
    for _ in range(settings.races):
        if decision.outcome != "promoted":
            return Published(ref, decision, None)
        try:
            entry = promote(
                store,
                ref.name,
                ref.version,
                expected=decision.champion_number,
                reason="passed the gate",
                now=datetime.now(UTC),
                decision=_in_short(decision),
            )
            return Published(ref, decision, entry)
        except AlreadyExistsError:
            current = champion(store, ref.name)
            if current is not None and current.version == ref.version:  # written by an attempt whose answer was lost
                return Published(ref, decision, current)
            decision = judge_version(store, ref, settings)
    raise AlreadyExistsError(
        f"{ref.name} got a new champion {settings.races} times while {ref.version} was judged. The version is stored; "
        f"`recsys promote {ref.version}` tries again."
    )


def judge_version(store: Store, ref: ModelRef, settings: PromotionSettings) -> Decision:
    """Decide on a sealed version anew: it and the champion are ranked again on its dataset's test requests, and the baselines'
    ranks are those sealed with it. The record is added to the version's decisions."""
    manifest = read_manifest(store, ref.name, ref.version)
    evaluation = EvaluationSettings.model_validate(manifest["lineage"]["settings"]["evaluation"])
    name, version = ref.dataset.split("/")
    dataset = load_dataset_ref(store, name, version)
    parts = read_split(store, dataset, evaluation)
    ranking = rank_version(store, ref, parts, evaluation)
    with tempfile.TemporaryDirectory(prefix="recsys-judge-") as folder:
        rankings = read_rankings(fetch_version(store, ref.prefix, manifest["files"], Path(folder)), parts)
    rankings.pop(ref.kind)
    check: LoadCheck = check_version(store, ref, settings)
    inputs = GateInputs(
        model_name=ref.name,
        dataset=ref.dataset,
        protocol=ref.protocol,
        challenger=Challenger(ref.version, ranking, beyond_accuracy(ranking, parts.train), check),
        baselines=rankings,
        champion=_rank_champion(store, champion_ref(store, ref.name), dataset, evaluation),
        slices=slices(parts.train, parts.test),
    )
    decision = decide(inputs, settings)
    stamp = f"{datetime.now(UTC):%Y%m%dT%H%M%S%fZ}"
    store.put_new(f"decisions/{ref.name}/{ref.version}/{stamp}.json", json.dumps(decision.to_dict(), indent=2).encode())
    return decision


def _rank_champion(
    store: Store, current: tuple[ModelRef, Promotion] | None, dataset: DatasetRef, settings: EvaluationSettings
) -> Champion | None:
    if current is None:
        return None
    ref, promotion = current
    own = EvaluationSettings.model_validate(read_manifest(store, ref.name, ref.version)["lineage"]["settings"]["evaluation"])
    if own.train_id != settings.train_id:
        raise GateError(
            f"The champion {ref.version} was trained under {own.train_id}, this run evaluates under {settings.train_id}: the train part "
            f"of one holds test events of the other. Set evaluation to {own.train_id}, or give this run another model_name."
        )
    ranking: Ranking = rank_version(store, ref, read_split(store, dataset, settings), settings)
    return Champion(ref.version, promotion.number, ranking)


def _in_short(decision: Decision) -> dict[str, Any]:
    kept = asdict(decision)
    return {key: kept[key] for key in ("outcome", "dataset", "protocol", "requests", "metrics", "tests", "champion")}
