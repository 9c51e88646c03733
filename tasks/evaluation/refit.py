"""Check a challenger that was trained again on all events, and make the folder of what servers load instead of the judged weights."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from pydantic import TypeAdapter, ValidationError

from configs.errors import TrainingError, VersionCorruptError
from configs.settings import RetrainSettings
from infra.registry import ModelRef, ModelRegistry, file_digests, refuse_changed
from infra.storage import Store
from models.columns import Columns
from models.evaluation import rank_requests
from models.inference import REFIT_FILE
from models.plugins import load_apart
from models.recommender import IntArray, Recommender, Requests, Sequences
from tasks.datasets import DatasetRef, external_ids, read_table
from tasks.evaluation.catalogue import schema_of, write_catalogue
from tasks.evaluation.load_check import SAMPLE_FILE, check_folder, sample_requests
from tasks.evaluation.version_folder import VersionFolder
from tasks.training import Candidate, read_split

__all__ = ["CheckedRefit", "Refit", "check_refit", "failed_refit", "read_refit"]

TOP = 10


@dataclass(frozen=True)
class Refit:
    """What became of the training on all events."""

    served: bool  # whether its weights are served; otherwise, the judged ones are
    reason: str  # one sentence that says why they are not served; empty if they are
    epochs: int
    events: int
    seconds: float
    agreement: float | None  # share of the top ten that both models have in common, on average; None if it was not measured
    users: int  # whose top tens were compared
    least_agreement: float


@dataclass(frozen=True)
class CheckedRefit:
    """What became of the training on all events, and the files that are served because of it, if any."""

    refit: Refit
    folder: VersionFolder | None


def failed_refit(judged: Candidate, reason: str, settings: RetrainSettings) -> CheckedRefit:
    """Return the outcome of a training on all events that has failed, so that there is nothing to check."""
    least = settings.training.refit_min_agreement
    return CheckedRefit(Refit(False, reason, judged.best_epoch, 0, 0.0, None, 0, least), None)


def check_refit(
    store: Store, dataset: DatasetRef, judged: VersionFolder, refit: Candidate, settings: RetrainSettings
) -> CheckedRefit:
    """Check a refit model, and complete its folder if it can be served.

    It must not have collapsed. Its top tens must have enough in common with the judged model's for the same users. A clean process must
    load it and answer as this one does.

    Args:
        store: Store of the dataset.
        dataset: Dataset version that both were trained on.
        judged: Folder of the version that the gate has accepted.
        refit: The model that was trained on all events.
        settings: Settings of the run.

    Raises:
        VersionCorruptError: Files have changed since they were made.
    """
    folder, place = Path(refit.folder), settings.training
    refuse_changed(Path(judged.path), judged.files, since="evaluated")
    refuse_changed(folder, refit.files, since="trained", more=True)
    parts = read_split(store, dataset, settings.evaluation, whole=True)
    found = Refit(
        True, "", refit.best_epoch, len(parts.train.item_ids), round(refit.seconds, 1), None, 0, place.refit_min_agreement
    )
    if refit.collapsed:
        return CheckedRefit(replace(found, served=False, reason=refit.collapsed), None)
    asked = _latest_requests(parts.train, place.refit_users, settings.seed)
    try:
        model = load_apart(folder)
        masked = parts.masks_seen(model.sequential)
        tops = [
            _top_items(each, asked, masked, settings.evaluation.batch_size) for each in (load_apart(Path(judged.path)), model)
        ]
        samples = sample_requests(model, asked, count=settings.promotion.sample_requests, seed=settings.seed)
    except (TrainingError, VersionCorruptError) as error:
        return CheckedRefit(replace(found, served=False, reason=str(error)), None)
    agreement = float(np.mean([len(np.intersect1d(*pair)) / max(len(pair[0]), 1) for pair in zip(*tops, strict=True)]))
    found = replace(found, agreement=round(agreement, 4), users=len(asked))
    if agreement < place.refit_min_agreement:
        said = (
            f"Its top tens have only {agreement:.0%} of their items in common with those of the judged weights, and "
            f"training.refit_min_agreement is {place.refit_min_agreement:.0%}."
        )
        return CheckedRefit(replace(found, served=False, reason=said), None)
    (folder / SAMPLE_FILE).write_text(json.dumps(samples), encoding="utf-8")
    items, texts = read_table(store, dataset, "items"), external_ids(store, dataset, Columns.ITEM)
    described = items if texts is None else items.assign(**{Columns.EXTERNAL_ID: items[Columns.ITEM].map(texts)})
    write_catalogue(folder, parts.catalogue, described, parts.train, schema_of(dataset, items, settings.data.nouns))
    check = check_folder(folder, settings.promotion)
    if not check.ok:
        return CheckedRefit(replace(found, served=False, reason=f"A clean process could not serve it: {check.reason}."), None)
    (folder / REFIT_FILE).write_text(json.dumps(asdict(found), indent=2), encoding="utf-8")
    return CheckedRefit(found, VersionFolder(str(folder), file_digests(folder)))


def read_refit(store: Store, ref: ModelRef) -> Refit | None:
    """Return what is stored about the weights that a version is served with, or None if it is served with the judged ones.

    Raises:
        VersionCorruptError: The record is damaged.
    """
    content = ModelRegistry(store).read_file(ref, f"serving/{REFIT_FILE}")
    if content is None:
        return None
    try:
        return TypeAdapter(Refit).validate_json(content)
    except ValidationError as error:
        raise VersionCorruptError(f"serving/{REFIT_FILE} of the version {ref.version} cannot be read; train again.") from error


def _latest_requests(events: Sequences, most: int, seed: int) -> Requests:
    """Return what some users ask for after all their events, at the time of the last one. The targets have no meaning."""
    rows = np.sort(np.random.default_rng(seed).permutation(len(events))[:most])
    last = events.offsets[1:] - 1
    every = Requests(
        events.user_ids,
        events.offsets,
        events.item_ids,
        events.timestamps,
        ties_drawn=events.ties_drawn,
        request_times=events.timestamps[last],
        targets=events.item_ids[last],
        ratings=events.ratings,
    )
    return every.take(rows)


def _top_items(model: Recommender, asked: Requests, masked: bool, batch_size: int) -> list[IntArray]:
    """Return the ids of the items that a model recommends for each request."""
    ranking = rank_requests(model, asked, model.catalogue, mask_seen=masked, batch_size=batch_size, top_k=TOP)
    return [model.catalogue[columns[columns >= 0]] for columns in ranking.top]
