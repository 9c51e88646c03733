"""The story of a run in plain words, from what the store records of it: for a reader who has never seen the pipeline.

A run that trained a version has sealed it, whatever the gate decided. A run that failed before leaves no version, and no story.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from configs.kinds import label_of
from configs.settings import NounSettings, model_option
from infra.pages import count, duration, listed, money, utc_day
from infra.registry import ModelRef, Promotion
from infra.version_names import short_version, shortened

__all__ = ["Chapter", "Records", "drift_answer", "tell"]

Mark = Literal["good", "bad", "open"]  # open: neither good nor bad, or not known
NDCG, HITS = "ndcg@10", "hr@10"


@dataclass(frozen=True)
class Chapter:
    """A question of the reader, its answer in a sentence, and what more there is to say. All texts are plain."""

    question: str
    mark: Mark
    answer: str
    details: list[str] = field(default_factory=list)


@dataclass(frozen=True, eq=False)
class Records:
    """What the store records of the run that trained a version, and around it."""

    ref: ModelRef
    lineage: Mapping[str, Any]
    evaluation: Mapping[str, Any] | None
    decision: Mapping[str, Any]
    dataset: Mapping[str, Any] | None  # manifest of the version's dataset; None if it is no longer stored
    before: Mapping[str, Any] | None  # manifest of the dataset of the version before; None if there is none, or no longer
    newest: Mapping[str, Any] | None  # manifest of the newest version of the dataset
    drift: Mapping[str, Any] | None  # the run's measurement of drift
    promotions: Sequence[Promotion]  # oldest first
    nouns: NounSettings

    @property
    def champion(self) -> str | None:
        return self.promotions[-1].version if self.promotions else None


def tell(records: Records) -> list[Chapter]:
    """Return the run's story: what came in, whether it is all right, what was trained, the verdict, the cost, and what is next."""
    return [
        _came_in(records),
        _data_quality(records),
        _trained(records),
        _verdict(records),
        _cost(records),
        _next(records),
    ]


def _came_in(records: Records) -> Chapter:
    question, nouns, data, before = "What came in?", records.nouns, records.dataset, records.before
    if data is None:
        return Chapter(question, "open", f"The store no longer has the data of this run, {records.ref.dataset}.")
    answer = (
        f"{data['rows']:,} {nouns.events} by {data['users']:,} {nouns.users} of {data['items']:,} {nouns.items}, from "
        f"{utc_day(data['first'])} to {utc_day(data['last'])}."
    )
    if before is None:
        return Chapter(question, "open", answer)
    if (before["name"], before["version"]) == (data["name"], data["version"]):
        return Chapter(question, "open", answer, ["These are the same data as in the run before: nothing new had come in."])
    more = data["rows"] - before["rows"]
    return Chapter(
        question, "good", answer, [f"That is {abs(more):,} {'more' if more >= 0 else 'fewer'} than in the run before."]
    )


def _data_quality(records: Records) -> Chapter:
    question = "Is the data all right?"
    rows, bad = _refused(records)
    mark, answer, details = drift_answer(records.drift, records.nouns)
    if bad:
        details = [f"{bad:,} of {rows:,} rows were bad and are not used.", *details]
    elif rows:
        details = [f"All {rows:,} rows could be read.", *details]
    return Chapter(question, mark, answer, details)


def _refused(records: Records) -> tuple[int, int]:
    """Return the rows of events that were read, and the bad ones among them; 0 and 0 if the record has no such count."""
    tables = ((records.dataset or {}).get("validation") or {}).get("tables", {})
    events = tables.get("interactions", {})
    return events.get("rows", 0), events.get("quarantined", 0)


def drift_answer(drift: Mapping[str, Any] | None, nouns: NounSettings) -> tuple[Mark, str, list[str]]:
    """Return whether a measurement of drift found the data all right: a mark, a sentence, and the reasons."""
    if drift is None:
        return "open", "It was not compared with earlier data in this run.", []
    reasons = [shortened(reason) for reason in drift["reasons"]]
    if drift["verdict"] == "drifted":
        return "bad", "It has changed in a way that matters. A person should look at it.", reasons
    if drift["verdict"] == "stable":
        looked = (
            f"{drift['rows']:,} of the newest {nouns.events} were compared with earlier ones in {len(drift['checks'])} checks."
        )
        return "good", "Yes. Nothing has changed that matters.", [looked, *reasons]
    if drift["rows"] == 0 and drift.get("champion"):
        return "open", "There is nothing new since the champion was trained, so there is nothing to compare.", []
    return "open", f"There are too few new {nouns.events} to tell.", reasons


def _trained(records: Records) -> Chapter:
    question, nouns, evaluation = "What was trained?", records.nouns, records.evaluation
    kind = label_of(records.ref.kind)
    took = f"{kind} was trained in {duration(records.lineage['duration_s'])}"
    if evaluation is None:
        return Chapter(question, "open", f"{took}.", ["How well it ranks was not recorded."])
    others = [name for name in evaluation["metrics"] if name != records.ref.kind]
    beside = f", and compared with {listed([label_of(name) for name in others])}" if others else ""
    hits = {name: parts["all"][HITS] for name, parts in evaluation["metrics"].items() if HITS in parts.get("all", {})}
    details = [
        f"The test: for each of {evaluation['requests']:,} requests, the {nouns.item} that the {nouns.user} really chose next was hidden, "
        f"and each model had to guess it with ten {nouns.items}."
    ]
    if records.ref.kind in hits:
        own = f"{kind} guessed it in {_percent(hits[records.ref.kind])} of the requests"
        compared = listed([f"{label_of(name)} in {_percent(hits[name])}" for name in others if name in hits])
        details.append(f"{own}, {compared}." if compared else f"{own}.")
    return Chapter(question, "open", f"{took}{beside}.", details)


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _verdict(records: Records) -> Chapter:
    question, decision = "Was it promoted, and why?", records.decision
    outcome = decision.get("outcome", "not judged")
    unmet = [_sentence(shortened(reason)) for reason in decision.get("reasons", [])]
    warnings = [f"Warning: {shortened(warning)}" for warning in decision.get("warnings", [])]
    compared = _compared(decision)
    approval = decision.get("approval")
    if approval:
        said = f": {approval['note']}" if approval.get("note") else ""
        compared.append(f"{approval['who']} {'approved' if approval['approved'] else 'refused'} it{said}.")
    entries = [entry for entry in records.promotions if entry.version == records.ref.version]
    forced = next((entry for entry in reversed(entries) if entry.kind == "force"), None)
    if outcome == "promoted":
        first = decision.get("champion") is None
        why = (
            "It is the first model, and it passed every rule that a first model has to pass."
            if first
            else "It passed every rule."
        )
        return Chapter(question, "good", f"Yes. {why}", [*compared, *warnings])
    reasons = ["The rules that it did not pass:", *unmet] if unmet else []
    if forced is not None:
        answer = f"Yes, by a person against the gate: {forced.who} said {forced.reason!r}."
        return Chapter(question, "open", answer, [*compared, *reasons, *warnings])
    if outcome == "needs approval":
        return Chapter(
            question, "open", "Not yet. It passed every rule, and waits for a person's approval.", [*compared, *warnings]
        )
    if outcome == "held":
        count_of = f"{len(unmet)} of the {len(decision.get('rules', []))} rules" if decision.get("rules") else "a rule"
        return Chapter(question, "bad", f"No. It did not pass {count_of}.", [*compared, *reasons, *warnings])
    return Chapter(question, "open", "It was not judged.", [*unmet, *warnings])


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}"


def _compared(decision: Mapping[str, Any]) -> list[str]:
    """Say how the new model compares with the champion on the same requests."""
    if not decision.get("comparisons"):
        return []
    overall = decision["comparisons"][0]
    if overall["ci_low"] > 0:
        held = decision.get("outcome") == "held"
        shown = "It looks better" + (", but the gate asks for more certainty than one comparison gives" if held else "")
    elif overall["ci_high"] < 0:
        shown = "It is worse"
    else:
        shown = "The difference may be chance"
    return [
        f"{shown}. On the same {overall['requests']:,} requests, its NDCG@10 is {overall['challenger']:.4f} and the champion's "
        f"{overall['champion']:.4f}. The difference is {overall['difference']:+.4f}: between {overall['ci_low']:+.4f} and "
        f"{overall['ci_high']:+.4f} with 95 % confidence.",
        "NDCG@10 is 1 if the right answer always comes first, and 0 if it is never among the first ten.",
    ]


def _cost(records: Records) -> Chapter:
    question, lineage = "What did it cost?", records.lineage
    hardware = lineage.get("hardware", {})
    gpus = hardware.get("gpus") or []
    place = (
        listed(sorted(set(gpus)))
        if gpus
        else f"{hardware.get('cpu', 'an unknown CPU')} with {count(hardware.get('cores') or 1, 'core')}"
    )
    training = (records.evaluation or {}).get("training", {})
    seconds = sum(float(each.get("seconds", 0.0)) for each in training.values()) or float(lineage["duration_s"])
    where = f"The training of all models took {duration(seconds)}, on {place}."
    if lineage.get("cost") is not None:
        return Chapter(question, "open", f"{money(lineage['cost'])} for rented hardware.", [where])
    return Chapter(question, "open", "No rented hardware was paid for.", [where])


def _next(records: Records) -> Chapter:
    question, ref, nouns = "What happens next?", records.ref, records.nouns
    named = model_option(ref.name)
    outcome, champion = records.decision.get("outcome"), records.champion
    details = []
    data, newest = records.dataset, records.newest
    if data is not None and newest is not None and newest["version"] != data["version"] and newest["rows"] > data["rows"]:
        more = newest["rows"] - data["rows"]
        details.append(f"The store has {more:,} newer {nouns.events}. `recsys retrain{named}` trains on them.")
    if champion == ref.version:
        answer = "Nothing needs to be done. Servers that follow the model load it by themselves."
        if any(entry.version != ref.version for entry in records.promotions):
            details.append(f"`recsys model rollback{named}` returns to the champion before.")
        return Chapter(question, "good", answer, details)
    stays = f"{short_version(champion)} stays champion" if champion else "There is still no champion"
    if any(entry.version == ref.version for entry in records.promotions):
        return Chapter(
            question, "good", f"Another version has replaced it since: {short_version(champion or '')} is the champion.", details
        )
    if outcome == "needs approval":
        command = f"`recsys model promote {short_version(ref.version)}{named}` judges it again and promotes it."
        return Chapter(
            question,
            "open",
            f"Somebody has to approve it. Until then, {stays[0].lower() if not champion else stays[0]}{stays[1:]}.",
            [command, *details],
        )
    details.append(f"`recsys model show {short_version(ref.version)}{named}` has every figure.")
    return Chapter(question, "open", f"{stays}, and the next run tries again.", details)
