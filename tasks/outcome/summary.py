"""The summary of a retraining as Markdown: the three answers, figures, the training curve, the gate's rules, data and time."""

from __future__ import annotations

from dataclasses import dataclass

from configs.kinds import label_of
from infra.pages import code_span, duration, escaped, folded, markdown_table, picture, utc_day
from infra.registry import ModelRef
from infra.version_names import shortened
from tasks.datasets import DatasetRef, Delivery
from tasks.evaluation import Evaluation, rating_words, training_curve_png
from tasks.gate import Decision, began_note, next_in_markdown, outcome_words, refit_note, rules_markdown
from tasks.monitoring import DriftResult
from tasks.outcome.answers import Answers, Cost, cost_answer, data_answer, verdict_answer
from tasks.training import Candidate

__all__ = ["Retraining", "answers_of", "headline_figures", "summary_markdown"]

METRICS = ("hr@10", "ndcg@10", "mrr@10")


@dataclass(frozen=True, eq=False)
class Retraining:
    """What a retraining made and found."""

    dataset: DatasetRef
    delivery: Delivery | None
    drift: DriftResult | None
    candidates: list[Candidate]
    evaluation: Evaluation
    decision: Decision
    version: ModelRef
    durations_s: dict[str, float]
    cost: Cost


def answers_of(found: Retraining) -> Answers:
    """Answer the three questions."""
    data = data_answer(found.dataset, found.drift, found.delivery)
    return Answers(verdict_answer(found.decision), data, cost_answer(found.cost))


def headline_figures(decision: Decision) -> str:
    """Return the challenger's NDCG@10 against the champion's, short enough for the name of a run."""
    if "challenger" not in decision.metrics:
        return decision.outcome
    ours = f"NDCG@10 {decision.metrics['challenger']['ndcg@10']:.3f}"
    champion = decision.metrics.get("champion")
    return f"{ours} against {champion['ndcg@10']:.3f}" if champion else f"{ours}, no champion before"


def summary_markdown(found: Retraining, links: str) -> str:
    """Render the summary.

    Args:
        found: What the run made and found.
        links: Lines that lead to the pages, as Markdown.
    """
    decision, version, answers = found.decision, found.version, answers_of(found)
    yes = {"promoted": "Yes", "needs approval": "Not yet"}.get(decision.outcome, "No")
    drifted = found.drift is not None and found.drift.verdict == "drifted"
    parts = [
        f"## {outcome_words(decision.outcome)}: {_told(f'{version.name} {version.version}')}",
        f"**Was it promoted?** {yes}. {_told(answers.verdict)}",
        "\n".join(f"- {_told(reason)}" for reason in [*decision.reasons, *decision.warnings]),
        f"**How did it begin?** {_told(began_note(decision.began))}" if decision.began else "",
        f"**What serves?** {_capital(_told(refit_note(decision.refit)))}" if decision.refit else "",
        f"**Is the data all right?** {'No, it has changed' if drifted else 'Yes'}: {_told(answers.data.partition(': ')[2])}",
        "\n".join(f"- {_told(reason)}" for reason in (found.drift.reasons if found.drift and drifted else [])),
        f"**What did it cost?** {_told(answers.cost)}",
        f"**What next?** {_capital(next_in_markdown(decision))}",
        links,
        "### How well each model ranks",
        _metrics(found),
        f"{found.evaluation.requests:,} test requests, under {escaped(found.evaluation.protocol)}. HR@10 is the share of requests with the "
        "item that the user chose next in the top ten; NDCG@10 gives less credit the lower it is ranked. Below each figure: its 95 % interval.",
        escaped(rating_words(found.evaluation.beyond_accuracy)),
        "### Training",
        _training(found.candidates),
        picture(
            training_curve_png({each.kind: each.epochs for each in found.candidates}),
            "Training loss and valid NDCG@10 by epoch; the dot marks the epoch that was kept",
        ),
        "## The gate",
        rules_markdown(decision),
        "## Data, time and names",
        _facts(found),
        f"All about this version: {code_span(f'recsys model show {version.version} --set model_name={version.name}')}",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _told(text: str) -> str:
    return escaped(shortened(text))


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _metrics(found: Retraining) -> str:
    """Return a row for each model on the gate's requests, the challenger and the champion first."""
    metrics, intervals = found.decision.metrics, found.decision.intervals
    if not metrics:
        metrics = {model: parts["all"] for model, parts in found.evaluation.metrics.items()}
        intervals = found.evaluation.intervals
    order: list[str] = [name for name in ("challenger", "champion") if name in metrics]
    order += [name for name in metrics if name not in order]

    def cell(model: str, metric: str) -> str:
        low, high = intervals[model][metric]
        return f"{metrics[model][metric]:.4f}<br>{low:.4f} to {high:.4f}"

    return markdown_table(
        ["model", *(name.upper() for name in METRICS)],
        [[escaped(label_of(model)), *(cell(model, metric) for metric in METRICS)] for model in order],
    )


def _training(candidates: list[Candidate]) -> str:
    rows = []
    for each in candidates:
        kept = next((epoch.valid.get("ndcg@10") for epoch in each.epochs if epoch.epoch == each.best_epoch), None)
        rows.append(
            [
                escaped(label_of(each.kind)),
                f"{each.best_epoch} of {len(each.epochs)}",
                "" if kept is None else f"{kept:.4f}",
                duration(each.seconds),
                escaped(each.device),
            ]
        )
    return markdown_table(["model", "kept epoch", "valid NDCG@10", "time", "on"], rows)


def _facts(found: Retraining) -> str:
    dataset, delivery = found.dataset, found.delivery
    rows = [
        ("events, users, items", f"{dataset.rows:,}, {dataset.users:,}, {dataset.items:,}"),
        ("from, to", f"{utc_day(dataset.first)}, {utc_day(dataset.last)}"),
        *(
            [("delivered, added, refused", f"{delivery.rows:,}, {delivery.added:,}, {delivery.quarantined:,}")]
            if delivery
            else []
        ),
        *([("drift of the newest events", found.drift.verdict)] if found.drift else []),
        (
            "time of the stages",
            ", ".join(f"{name} {duration(seconds)}" for name, seconds in found.durations_s.items() if seconds >= 1),
        ),
        ("version", found.version.version),
        ("champion before", found.decision.champion or "none"),
        ("dataset", f"{dataset.name}/{dataset.version}"),
    ]
    return markdown_table(["what", "value"], [[name, folded(value, 70)] for name, value in rows])
