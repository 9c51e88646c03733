"""Say before training that the gate could not judge its result, so that no time and no GPU is spent on it.

How many requests there are, and what the champion has seen of them, follows from the data and the protocol alone.
"""

from __future__ import annotations

from configs.errors import GateError, VersionCorruptError
from configs.settings import EvaluationSettings, PromotionSettings, RetrainSettings
from infra.registry import ModelRegistry, refuse_frozen
from infra.storage import Store
from models.evaluation import Split
from tasks.datasets import DatasetRef
from tasks.evaluation import overlap_with, request_slices
from tasks.gate.opponents import refuse_other_protocol
from tasks.training import read_split

__all__ = ["refuse_unjudgeable"]


def refuse_unjudgeable(store: Store, dataset: DatasetRef, settings: RetrainSettings) -> int:
    """Check that the gate can judge a model that is trained on the dataset version.

    Args:
        store: Store of the dataset and of the champion.
        dataset: Dataset version that models will be trained on.
        settings: Settings of the run.

    Returns:
        The number of requests that challenger and champion would be compared on.

    Raises:
        SettingsError: `evaluation.slices` names an attribute that there is not.
        DataRefusedError: The protocol leaves no events to train, validate or test on.
        FrozenError: The model is frozen, so nothing could be promoted.
        GateError: There are too few requests, the champion has seen too many of them, or it was trained under another protocol.
    """
    refuse_frozen(ModelRegistry(store).newest(settings.model_name))
    evaluation, promotion = settings.evaluation, settings.promotion
    if evaluation.protocol == "temporal" and evaluation.temporal_target == "successive":
        raise GateError(
            "The gate cannot judge under evaluation.temporal_target: successive, so nothing was trained: the requests of one user are alike, "
            "and the gate's tests would take them for independent. Use first or last, or train without the gate with `recsys model train`."
        )
    parts = read_split(store, dataset, evaluation)
    named = f"{dataset.name}/{dataset.version}"
    asked = len(parts.test)
    request_slices(store, dataset, parts, evaluation.slices, settings.data.nouns)
    if asked < promotion.min_requests:
        raise GateError(_too_few(named, asked, parts, evaluation, promotion))
    current = ModelRegistry(store).champion_ref(settings.model_name)
    if current is None:
        return asked
    try:
        refuse_other_protocol(store, current[0], evaluation)
        overlap = overlap_with(store, current[0], dataset, evaluation)
    except VersionCorruptError:
        return asked  # the gate holds the model and says so, and a forced promotion can replace the champion
    if overlap is None:
        return asked
    champion, fair = current[0].version, int((~overlap.learnt).sum())
    if overlap.seen_share > promotion.max_seen_share:
        raise GateError(
            f"The gate could not judge a model of {named}, so nothing was trained: the champion {champion} has learnt "
            f"{overlap.seen_share:.1%} of its test events, and promotion.max_seen_share allows {promotion.max_seen_share:.1%}. The dataset is "
            "older than the champion's: train on a newer version."
        )
    if fair < promotion.min_requests:
        raise GateError(
            f"The gate could not judge a model of {named}, so nothing was trained: the champion {champion} has learnt the user and item of "
            f"{asked - fair} of {asked} requests, which leaves {fair}, and promotion.min_requests asks for {promotion.min_requests}. Collect "
            f"newer events, {_or_else(promotion)}"
        )
    return fair


def _too_few(named: str, asked: int, parts: Split, evaluation: EvaluationSettings, promotion: PromotionSettings) -> str:
    """Return why there are too few requests, and what can be done."""
    missing, dropped = promotion.min_requests - asked, parts.counts.get("dropped_users", 0)
    if evaluation.protocol == "temporal":
        why = f"{asked} users have events in the test part, the latest {evaluation.temporal_test_share:.0%} of all events"
        more = "Raise evaluation.temporal_test_share, use the protocol loo-exact (evaluation.protocol)"
    else:
        why = f"the last event of each user is a request, and {asked} users have enough events"
        more = f"Collect the events of {missing} more users"
        if dropped and evaluation.k_core:
            more += f", lower evaluation.k_core ({evaluation.k_core} dropped {dropped} users)"
    return (
        f"The gate could not judge a model of {named}, so nothing was trained: {why}, but promotion.min_requests asks for "
        f"{promotion.min_requests} requests. {more}, {_or_else(promotion)}"
    )


def _or_else(promotion: PromotionSettings) -> str:
    lower = "" if promotion.min_requests <= 20 else "lower promotion.min_requests (a gain that is found may then be luck), "
    return f"{lower}or train without the gate with `recsys model train`."
