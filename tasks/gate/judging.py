"""Judge a stored version: check it in a clean process, rank it beside the current champion, and decide by the rules.

A version is judged before it is sealed, and again whenever someone wants to promote it later.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from configs.errors import GateError, TrainingError, VersionCorruptError
from configs.kinds import place_of
from configs.loading import merged, read_recorded, refuse_newer
from configs.renames import former_keys
from configs.settings import EvaluationSettings, ModelSettings, NounSettings, PromotionSettings, RetrainSettings
from configs.training_place import TrainingPlaceSettings
from infra.leases import leased
from infra.registry import ModelRef, ModelRegistry, Promotion, StagedVersion
from infra.storage import Store
from models.evaluation import Split, gini_of_events, list_metrics
from models.plugins import load_apart
from tasks.best_effort import LOG, attempt
from tasks.datasets import DatasetRef, load_dataset_ref, verify_dataset
from tasks.evaluation import (
    LoadCheck,
    check_staged,
    compare_windows,
    errors_of_ratings,
    rank,
    read_collapses,
    read_rankings,
    read_refit,
    request_slices,
)
from tasks.gate.decision import Decision
from tasks.gate.inputs import Challenger, GateInputs, UnrankedInputs
from tasks.gate.opponents import Ground, anchor_of, decisions_since, margin_version, noise_of, rank_champion
from tasks.gate.page import render_html
from tasks.gate.rules import decide, hold_unranked
from tasks.training import began_of_version, read_split

__all__ = ["gate_settings", "judge_sealed", "judge_staged", "record_decision"]


def judge_staged(
    store: Store, staged: StagedVersion, challenger_kind: str, dataset: DatasetRef, settings: RetrainSettings
) -> Decision:
    """Judge a version that is not sealed yet.

    Args:
        store: Store with the version, its dataset and the champion.
        staged: The version.
        challenger_kind: Kind of its model.
        dataset: Dataset version that it was trained on.
        settings: Settings of the run.
    """
    nouns = settings.data.nouns
    decision = _judge(
        _Case(store, staged, challenger_kind, dataset, settings.evaluation, settings.models, settings.promotion, nouns)
    )
    if not decision.metrics:  # it could not be ranked, perhaps because its record is damaged
        return decision
    return replace(decision, began=began_of_version(store, staged, challenger_kind, settings.training))


def judge_sealed(store: Store, ref: ModelRef, settings: PromotionSettings) -> Decision:
    """Judge a sealed version again on its dataset's test requests.

    The record is added to the version's decisions. If the decision is to promote, whoever promotes adds it afterwards, because
    another promotion may come first.
    """
    manifest = ModelRegistry(store).manifest(ref.name, ref.version)
    trained = manifest["lineage"]["settings"]
    evaluation = read_recorded(EvaluationSettings, trained["evaluation"], f"The version {ref.version}")
    nouns = NounSettings.model_validate(trained.get("data", {}).get("nouns", {}))  # earlier versions have none
    name, version = ref.dataset.split("/")
    stored = StagedVersion(ref.name, ref.version, ref.prefix, manifest["files"])
    models = ModelSettings.of_version(trained["models"])
    dataset = load_dataset_ref(store, name, version)
    with leased(store, f"a judgement of {ref.version}", [ref.prefix, dataset.prefix]):
        decision = _judge(_Case(store, stored, ref.kind, dataset, evaluation, models, settings, nouns))
    place = TrainingPlaceSettings(warm_start=trained.get("training", {}).get("warm_start", False))  # earlier versions have none
    began = began_of_version(store, ref, ref.kind, place) if decision.metrics else None
    decision = replace(decision, refit=read_refit(store, ref), began=began)
    if decision.outcome != "promoted":
        record_decision(store, ref, decision)
    return decision


def gate_settings(store: Store, ref: ModelRef, given: PromotionSettings | None = None) -> PromotionSettings:
    """Return the gate settings that the version was trained with, overridden by the fields that `given` sets explicitly.

    With the default settings instead, a version that a stricter gate held could pass when it is judged again.
    """
    manifest = ModelRegistry(store).manifest(ref.name, ref.version)
    recorded = manifest["lineage"]["settings"]["promotion"]
    refuse_newer(recorded, f"The version {ref.version}", {*PromotionSettings.model_fields, *former_keys(PromotionSettings)})
    stored = PromotionSettings.of_version(recorded)
    overrides = given.model_dump(exclude_unset=True) if given is not None else {}
    return PromotionSettings.of_version(merged(stored.model_dump(), overrides), given=overrides)


def record_decision(store: Store, ref: ModelRef, decision: Decision) -> str | None:
    """Store a decision made after the version was sealed, as a page and as JSON.

    Returns the key of the page, or None if it could not be rendered.
    """
    page = attempt("The decision's page", render_html, LOG, decision)
    return ModelRegistry(store).add_decision(ref, decision.to_dict(), datetime.now(UTC), page)


@dataclass(frozen=True)
class _Case:
    """A stored version, and what it is judged on."""

    store: Store
    stored: StagedVersion
    kind: str
    dataset: DatasetRef
    evaluation: EvaluationSettings
    models: ModelSettings
    settings: PromotionSettings
    nouns: NounSettings


def _judge(case: _Case) -> Decision:
    """Rank the stored version and the champion, and decide.

    Only the baselines' ranks are read from the stored files, which the digest in the version's name verifies. A version that a
    clean process could not load is not loaded here.
    """
    store, stored, dataset, settings = case.store, case.stored, case.dataset, case.settings
    now = datetime.now(UTC)
    verify_dataset(store, dataset)
    parts = read_split(store, dataset, case.evaluation)
    registry = ModelRegistry(store)
    current = registry.champion_ref(stored.name)
    ground = Ground(store, stored.name, dataset, case.evaluation, parts)

    def hold(check: LoadCheck, champion_fault: str | None = None) -> Decision:
        return _hold(case, parts, current, check, champion_fault)

    with ExitStack() as stack:
        try:
            folder = stack.enter_context(registry.fetched(stored))
        except VersionCorruptError as error:
            return hold(LoadCheck.failed(str(error)))
        rankings, collapses = read_rankings(folder, dataset, parts), read_collapses(folder, case.kind)
        if case.kind not in rankings:
            raise GateError(f"The ranks stored with {stored.version} do not include its own kind, {case.kind}; train again.")
        check = check_staged(store, stored, settings)
        if not check.ok:
            return hold(check)
        try:
            model = load_apart(folder)
            ranking = rank(model, parts, case.evaluation)
            ratings = errors_of_ratings(model, parts.test, batch_size=case.evaluation.batch_size, seed=settings.bootstrap_seed)
        except TrainingError as error:  # NaN or infinite scores on requests that were not sampled
            return hold(replace(check, ok=False, reason=str(error)))
        try:
            champion = None if current is None else rank_champion(ground, *current)
        except (GateError, TrainingError, VersionCorruptError) as error:
            # Hold the version but keep it: the champion is at fault, and a forced promotion can replace it.
            return hold(check, str(error))
        served_window = (
            None
            if place_of(case.kind) is not None
            else attempt(  # a plugin's model stays out of this process
                "The comparison with the window of events that servers read",
                compare_windows,
                LOG,
                folder,
                model.catalogue,
                parts,
                resamples=settings.resamples,
                seed=settings.bootstrap_seed,
            )
        )
    recorded = rankings.pop(case.kind)
    inputs = GateInputs(
        model_name=stored.name,
        dataset=f"{dataset.name}/{dataset.version}",
        protocol=parts.id,
        challenger=Challenger(
            stored.version,
            ranking,
            list_metrics(ranking, parts.train),
            check,
            recorded=recorded,
            served_window=served_window,
            ratings=ratings,
            gini_of_events=gini_of_events(ranking, parts.train),
            collapsed=collapses.challenger,
        ),
        baselines=rankings,
        champion=champion,
        slices=request_slices(store, dataset, parts, case.evaluation.slices, case.nouns),
        noise=noise_of(ground, case.kind, case.models, stored.version, settings.training_noise),
        anchor=anchor_of(ground, current, settings.anchor_days, now),
        margin_from=margin_version(ground, current) if settings.rule == "non-inferior" else None,
        collapses=collapses.warnings,
        decisions=decisions_since(registry, stored, now),
    )
    return decide(inputs, settings)


def _hold(
    case: _Case,
    parts: Split,
    current: tuple[ModelRef, Promotion] | None,
    check: LoadCheck,
    champion_fault: str | None,
) -> Decision:
    inputs = UnrankedInputs(
        model_name=case.stored.name,
        dataset=f"{case.dataset.name}/{case.dataset.version}",
        protocol=parts.id,
        requests=len(parts.test),
        challenger=case.stored.version,
        champion=current[0].version if current else None,
        champion_number=current[1].number if current else 0,
        load_check=check,
        champion_fault=champion_fault,
    )
    return hold_unranked(inputs, case.settings)
