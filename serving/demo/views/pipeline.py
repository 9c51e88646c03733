"""Page: versions, past champions, how well each version ranks, and why the gate decided as it did."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

import streamlit as st

from infra.pages import code_span, escaped
from infra.registry import ModelRef
from infra.version_names import shortened
from serving.demo import Context, charts, link_to_reports, plain_table, when

__all__ = ["show"]

COMMAND = re.compile(r"`((?:recsys|make|python) [^`]+)`")

METRICS = {"NDCG@10": "ndcg@10", "HR@10": "hr@10", "MRR@10": "mrr@10"}
MARKS = {
    "passed": "✓ passed",
    "failed": "✗ held",
    "not judged": "\N{EN DASH} could not be judged",
    "not applicable": "\N{EN DASH} does not apply",
}
LOSS_MARKS = MARKS | {"passed": "○ no loss shown", "failed": "✗ loss shown"}
"""Of a test that looks for a loss: to find none does not prove that there is none."""


def show(context: Context) -> None:
    """Draw the page."""
    refs, entries, champion = context.versions(), context.promotions(), context.champion()
    if not refs:
        st.info(
            f"There is no version of {context.settings.model_name} in {context.view.place} yet. `recsys retrain` creates one."
        )
        return
    for version, reason in context.damaged().items():
        st.error(escaped(shortened(f"{version}: {reason}")))
    one, two, three, four = st.columns(4)
    one.metric("Champion", context.short(champion) if champion else "none")
    two.metric("Versions", len(refs))
    three.metric("Promotions", sum(entry.kind in ("promote", "force") for entry in entries))
    four.metric("Rollbacks", sum(entry.kind in ("rollback", "return") for entry in entries))
    if entries:
        st.subheader("Champions over time")
        starts = [datetime.fromisoformat(entry.when) for entry in entries]
        ended = charts.ends(starts, datetime.now(UTC))
        rows = [
            {"version": context.short(entry.version), "start": start, "end": end, "kind": entry.kind, "reason": entry.reason}
            for entry, start, end in zip(entries, starts, ended, strict=True)
        ]
        st.altair_chart(charts.champions(rows), width="stretch")
    st.subheader("How well each version ranks")
    chosen = st.segmented_control("Metric", list(METRICS), default="NDCG@10", label_visibility="collapsed") or "NDCG@10"
    st.caption("On each version's own holdout, with 95 % intervals. Only compare versions with the same dataset and protocol.")
    found = [row for ref in refs for row in _intervals(context, ref, METRICS[chosen])]
    if found:
        st.altair_chart(charts.metric_intervals(found, chosen), width="stretch")
    plain_table(
        [
            {
                "": "★" if ref.version == champion else "",
                "version": ref.version,
                "model": ref.kind,
                "dataset": ref.dataset,
                "protocol": ref.protocol,
                "HR@10": ref.metrics.get("hr@10"),
                "NDCG@10": ref.metrics.get("ndcg@10"),
                "gate": ref.outcome,
            }
            for ref in refs
        ]
    )
    _decision(context, refs)
    st.subheader("Promotion log")
    plain_table(
        [
            {"number": e.number, "when (UTC)": when(int(datetime.fromisoformat(e.when).timestamp())), "kind": e.kind, "version": e.version, "before": e.previous, "who": e.who, "reason": e.reason}
            for e in reversed(entries)
        ]
    )  # fmt: skip


def _intervals(context: Context, ref: ModelRef, metric: str) -> list[dict[str, Any]]:
    """Return one row for each of a version's models that has this metric over all requests."""
    evaluation = context.view.json_of(ref, "evaluation.json")
    if evaluation is None:
        return []
    return [
        {
            "version": context.short(ref.version),
            "model": model,
            "value": parts["all"][metric],
            "low": evaluation["intervals"][model][metric][0],
            "high": evaluation["intervals"][model][metric][1],
        }
        for model, parts in evaluation["metrics"].items()
        if metric in evaluation.get("intervals", {}).get(model, {})
    ]


def _with_commands(text: str) -> str:
    """Return a sentence as Markdown, with the commands between backticks as code. All else is shown as it is written."""
    parts = COMMAND.split(shortened(text))
    return "".join(code_span(part) if place % 2 else escaped(part) for place, part in enumerate(parts))


def _decision(context: Context, refs: list[ModelRef]) -> None:
    st.subheader("The gate's verdict")
    labels = {context.label(ref): ref for ref in refs}
    ref = labels[st.selectbox("Version", list(labels), key="decided")]
    decision = context.view.json_of(ref, "decision.json") or {}
    outcome = decision.get("outcome", "none")
    say = {"promoted": st.success, "held": st.error}.get(outcome, st.warning)
    say(f"**{escaped(outcome.capitalize())}.** {_with_commands(' '.join(decision.get('reasons', [])))}")
    for warning in decision.get("warnings", []):  # an earlier version stored none
        st.warning(_with_commands(warning))
    rules = decision.get("rules", [])
    if rules:
        plain_table(
            [
                {
                    "rule": rule["name"],
                    "figure": "" if rule["figure"] is None else f"{rule['figure']:.4f}".rstrip("0").rstrip("."),
                    "must be": "" if rule["threshold"] is None else f"{rule['comparison']} {rule['threshold']:.4g}",
                    "verdict": (LOSS_MARKS if rule["comparison"] == "p >" else MARKS).get(rule["verdict"], rule["verdict"]),
                    "in words": rule["detail"],
                }
                for rule in rules
            ]
        )
    link_to_reports({"This decision as a report": context.view.page_key(ref)})
    page = context.view.page_of(ref)
    if page is not None and st.toggle("Show the decision page"):
        st.iframe(page, height=900)
