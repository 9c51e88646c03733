"""Audit of a version's score: how much comes from the model, and how much from the evaluation protocol.

The stored version is ranked on its own test requests while three switches are toggled:

- seen items are excluded from the ranking or included in it;
- the request is made at the target's time or at the time of the last event before it;
- events with equal timestamps keep their order in the histories (`as they are`) or not (`shuffled`).

Nothing else changes, so the difference in a metric is the effect of the switch. A score that depends on the order in which a
source lists events of the same second drops when that order is shuffled.

The tie order of the train and test parts cannot be switched for a trained version, because the version may have learnt events
that another order holds out. `retrained` trains the same settings under each order instead.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from configs.loading import read_recorded
from configs.settings import EvaluationSettings, ModelSettings
from infra.leases import leased
from infra.pages import code_span, escaped, markdown_table
from infra.registry import ModelRef, ModelRegistry
from infra.storage import Store
from models.evaluation import (
    ORDERINGS,
    Ordering,
    Split,
    confidence_interval,
    metrics,
    paired_test,
    per_request,
    rank_requests,
    split,
)
from models.loading import make_recommender
from models.plugins import load_apart
from models.recommender import IntArray, Recommender, Requests
from tasks.datasets import load_dataset_ref, read_table

__all__ = ["AuditReport", "AuditRow", "Effect", "audit_model", "audit_version", "redraw_ties", "render_markdown", "retrained"]

FloatArray = npt.NDArray[np.float64]
Ties = Literal["as they are", "shuffled"]
RequestTime = Literal["target", "last"]
Repeats = Literal["newest", "keep"]
Switches = tuple[bool, RequestTime, Ties]  # seen items masked, time of the request, order of ties in the histories
Cube = dict[Switches, list[IntArray]]  # ranks (R,) for each combination, one array per draw
RESAMPLES = 2000
WORTH_SAYING = 0.1  # minimum share of NDCG@10 that is reported as a finding
WHEN: dict[RequestTime, str] = {"target": "the target's time", "last": "the last event's time"}
ORDER_NAMES: dict[Ordering, str] = {
    "float32-source": "float32 time, ties in source order",
    "exact-source": "exact time, ties in source order",
    "exact-drawn": "exact time, ties drawn",
}


@dataclass(frozen=True)
class AuditRow:
    """One combination of switches."""

    order: str  # of events in the train and test parts
    seen: Literal["masked", "unmasked"]
    request_time: RequestTime
    ties: Ties  # in the histories of the requests
    own: bool  # the combination of the version's own protocol
    requests: int
    metrics: dict[str, float]  # at 10; means over the draws
    interval: tuple[float, float]  # of NDCG@10, 95 %


@dataclass(frozen=True)
class Effect:
    """The effect of one switch alone, measured on the same requests."""

    switch: str
    ndcg_own: float
    ndcg_switched: float
    difference: float  # switched - own
    interval: tuple[float, float]  # 95 %
    share: float  # of the own NDCG@10


@dataclass(frozen=True)
class AuditReport:
    """All rows, and the effect of each switch relative to the version's own protocol."""

    model_name: str
    version: str
    dataset: str
    protocol: str
    tied_share: float  # share of the histories' events that have the same timestamp as a neighbour
    rows: list[AuditRow]
    effects: list[Effect]
    findings: list[str]  # caveats for readers of the score; empty if no switch has a large effect

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def audit_version(
    store: Store, ref: ModelRef, *, retrain: bool, draws: int, seed: int, report: Callable[[str], None]
) -> AuditReport:
    """Audit a sealed version on its own dataset version, and store the report as JSON and Markdown.

    Args:
        store: Store that holds the version; the report is written under `audits/`.
        ref: Version to audit.
        retrain: Whether to also train the same settings under each order of events.
        draws: Number of random orders that the ties are shuffled into.
        seed: Seed of the shuffles and the bootstrap.
        report: Called with a line of text at the start of each step.

    Raises:
        VersionCorruptError: The stored files differ from those that were sealed.
    """
    registry = ModelRegistry(store)
    manifest = registry.manifest(ref.name, ref.version)
    settings = manifest["lineage"]["settings"]
    evaluation = read_recorded(EvaluationSettings, settings["evaluation"], f"The version {ref.version}")
    name, version = ref.dataset.split("/")
    dataset = load_dataset_ref(store, name, version)
    with leased(store, f"an audit of {ref.version}", [ref.prefix, dataset.prefix]):
        columns = list(dataset.properties.with_weight(("user_id", "item_id", "timestamp", "row")))
        events = read_table(store, dataset, "interactions", columns)
        users, items = (read_table(store, dataset, table) for table in ("users", "items"))
        with registry.fetched(ref) as folder:
            model = load_apart(folder)
    report(f"ranking {ref.version} under each switch")
    repeats = dataset.properties.repeats
    found = audit_model(model, events, evaluation, draws=draws, seed=seed, repeats=repeats)
    result = replace(found, model_name=ref.name, version=ref.version, dataset=ref.dataset)
    if retrain:
        models = ModelSettings.of_version(settings["models"])
        kind = ref.kind

        def fresh() -> Recommender:
            model = make_recommender(kind, models)
            model.describe_users(users)
            model.describe_items(items)
            return model

        rows = retrained(fresh, events, evaluation, draws=draws, seed=int(settings["seed"]), report=report, repeats=repeats)
        result = replace(result, rows=[*result.rows, *rows])
    stamp = f"{datetime.now(UTC):%Y%m%dT%H%M%S%fZ}"
    prefix = f"audits/{ref.name}/{ref.version}/{stamp}"
    store.put_new(f"{prefix}.md", render_markdown(result).encode())
    store.put_new(f"{prefix}.json", json.dumps(result.to_dict(), indent=2).encode())
    return result


def audit_model(
    model: Recommender, events: pd.DataFrame, settings: EvaluationSettings, *, draws: int, seed: int, repeats: Repeats = "newest"
) -> AuditReport:
    """Audit `model`, which was trained on `events` under `settings`, under every combination of the switches."""
    parts = split(events, _at_target(settings), repeats=repeats)
    cube = _cube(model, parts, settings, draws=draws, seed=seed)
    masked, time = parts.masks_seen(model.sequential), settings.query_time
    other_time: RequestTime = "last" if time == "target" else "target"
    own = _ndcg(cube[masked, time, "as they are"])
    switched = {
        f"seen items {'left in' if masked else 'left out'}": cube[not masked, time, "as they are"],
        f"asked at {WHEN[other_time]}": cube[masked, other_time, "as they are"],
        "ties in the histories shuffled": cube[masked, time, "shuffled"],
    }
    effects = [_effect(name, own, _ndcg(ranks), seed) for name, ranks in switched.items()]
    return AuditReport(
        model_name=model.name,
        version="",
        dataset="",
        protocol=settings.protocol_id_for(repeats),
        tied_share=_tied_share(parts.test),
        rows=_rows(cube, ORDER_NAMES[ORDERINGS[parts.protocol]], own=(masked, time, "as they are"), seed=seed),
        effects=effects,
        findings=[finding for effect in effects if (finding := _finding(effect))],
    )


def retrained(
    fresh: Callable[[], Recommender],
    events: pd.DataFrame,
    settings: EvaluationSettings,
    *,
    draws: int,
    seed: int,
    report: Callable[[str], None],
    repeats: Repeats = "newest",
) -> list[AuditRow]:
    """Train the model under each order of events, and rank each under every combination of the other switches.

    `fresh` returns a new, untrained model each time it is called.
    """
    rows = []
    for ordering in ORDER_NAMES:
        parts = split(events, _at_target(settings), ordering, repeats=repeats)
        model = fresh()
        report(f"training {model.name} with {ORDER_NAMES[ordering]}")
        model.fit(parts.train, parts.valid, parts.catalogue, seed=seed, mask_seen=parts.masks_seen(model.sequential))
        cube = _cube(model, parts, settings, draws=draws, seed=seed)
        rows += _rows(cube, f"{ORDER_NAMES[ordering]}, retrained", own=None, seed=seed)
    return rows


def redraw_ties(requests: Requests, rng: np.random.Generator) -> Requests:
    """Return the requests with the events of equal timestamps shuffled within each history."""
    rows = requests.row_of_event
    order = np.lexsort((rng.random(len(rows)), requests.timestamps, rows))
    # Histories are sorted by time, so only events of the same second change places.
    return replace(
        requests,
        item_ids=requests.item_ids[order],
        weights=None if requests.weights is None else requests.weights[order],
        ratings=None if requests.ratings is None else requests.ratings[order],
    )


def render_markdown(report: AuditReport) -> str:
    """Render the audit as Markdown: first the effect of each switch, then all figures."""
    lines = [
        f"## {escaped(f'Audit of {report.model_name} {report.version}')}",
        "",
        f"Protocol {code_span(report.protocol)}, dataset {escaped(report.dataset)}. {report.tied_share:.0%} of the histories' events have the "
        "same timestamp (to the second) as a neighbour.",
        "",
        *[f"- {finding}" for finding in report.findings],
        *([""] if report.findings else []),
        markdown_table(
            ["switch", "own NDCG@10", "switched", "difference (95 %)", "relative"], map(_effect_cells, report.effects)
        ),
        "",
        markdown_table(
            ["order of events", "seen items", "request at", "ties in histories", "HR@10", "NDCG@10 (95 %)", "MRR@10"],
            map(_row_cells, report.rows),
        ),
    ]
    return "\n".join(lines) + "\n"


def _effect_cells(effect: Effect) -> list[str]:
    low, high = effect.interval
    return [
        effect.switch,
        f"{effect.ndcg_own:.4f}",
        f"{effect.ndcg_switched:.4f}",
        f"{effect.difference:+.4f} ({low:+.4f} to {high:+.4f})",
        f"{effect.share:+.0%}",
    ]


def _row_cells(row: AuditRow) -> list[str]:
    low, high = row.interval
    return [
        f"{row.order} (own)" if row.own else row.order,
        row.seen,
        row.request_time,
        row.ties,
        f"{row.metrics['hr@10']:.4f}",
        f"{row.metrics['ndcg@10']:.4f} ({low:.4f} to {high:.4f})",
        f"{row.metrics['mrr@10']:.4f}",
    ]


def _at_target(settings: EvaluationSettings) -> EvaluationSettings:
    return settings.model_copy(update={"query_time": "target"})


def _cube(model: Recommender, parts: Split, settings: EvaluationSettings, *, draws: int, seed: int) -> Cube:
    rng = np.random.default_rng(seed)
    drawn = [redraw_ties(parts.test, rng) for _ in range(draws)]
    histories: dict[Ties, list[Requests]] = {"as they are": [parts.test], "shuffled": drawn}
    times: tuple[RequestTime, ...] = ("target", "last")
    cube: Cube = {}
    for masked, time, ties in itertools.product((True, False), times, histories):
        asked = [_asked_at(requests, time) for requests in histories[ties]]
        cube[masked, time, ties] = [
            rank_requests(model, requests, parts.catalogue, mask_seen=masked, batch_size=settings.batch_size).ranks
            for requests in asked
        ]
    return cube


def _asked_at(requests: Requests, request_time: RequestTime) -> Requests:
    if request_time == "target" or not len(requests.timestamps):
        return requests
    last = requests.timestamps[np.maximum(requests.offsets[1:] - 1, 0)]
    return replace(requests, request_times=np.where(requests.lengths > 0, last, requests.request_times))


def _ndcg(ranks: list[IntArray]) -> FloatArray:
    """NDCG@10 per request (R,), averaged over the draws."""
    mean: FloatArray = np.mean([per_request(r, "ndcg", 10) for r in ranks], axis=0)
    return mean


def _rows(cube: Cube, order: str, *, own: Switches | None, seed: int) -> list[AuditRow]:
    rows = []
    for switches, ranks in cube.items():
        masked, time, ties = switches
        found = [metrics(r, (10,)) for r in ranks]
        rows.append(
            AuditRow(
                order=order,
                seen="masked" if masked else "unmasked",
                request_time=time,
                ties=ties,
                own=switches == own,
                requests=len(ranks[0]),
                metrics={name: float(np.mean([m[name] for m in found])) for name in found[0]},
                interval=confidence_interval(_ndcg(ranks), resamples=RESAMPLES, seed=seed),
            )
        )
    return sorted(rows, key=lambda row: not row.own)


def _tied_share(requests: Requests) -> float:
    if len(requests.timestamps) < 2:
        return 0.0
    same = (np.diff(requests.timestamps) == 0) & (np.diff(requests.row_of_event) == 0)
    return float((np.append(same, False) | np.append(False, same)).mean())


def _effect(name: str, own: FloatArray, switched: FloatArray, seed: int) -> Effect:
    test = paired_test(switched, own, resamples=RESAMPLES, seed=seed)
    share = test.difference / test.mean_b if test.mean_b else 0.0
    return Effect(name, test.mean_b, test.mean_a, test.difference, (test.ci_low, test.ci_high), share)


def _finding(effect: Effect) -> str | None:
    low, high = effect.interval
    if abs(effect.share) < WORTH_SAYING or low <= 0 <= high:
        return None
    verb = "loses" if effect.share < 0 else "gains"
    return (
        f"With {effect.switch}, the version {verb} {abs(effect.share):.0%} of its NDCG@10 ({effect.ndcg_own:.4f} to "
        f"{effect.ndcg_switched:.4f}, 95 % interval of the difference {low:+.4f} to {high:+.4f})."
    )
