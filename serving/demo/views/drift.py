"""Page: whether the data has drifted from the champion's reference, now and over time."""

from __future__ import annotations

import streamlit as st

from configs.settings import NounSettings
from infra.pages import escaped
from infra.version_names import shortened
from serving.demo import Context, DriftRecord, charts, drift_answer, link_to_reports, plain_table

__all__ = ["show"]


def show(context: Context) -> None:
    """Draw the page."""
    records = context.drift()
    if not records:
        st.info("Drift has not been measured yet. `recsys monitor` compares the newest events with the champion's reference.")
        return
    last = records[-1]
    _say(last, context.nouns())
    rows = [
        {
            "when": record.when,
            "check": check["name"],
            "size": check["effect"] / check["bound"],
            "effect": check["effect"],
            "bound": check["bound"],
            "verdict": check["verdict"],
            "dataset": record.dataset,
        }
        for record in records
        for check in record.result["checks"]
        if check["effect"] is not None and check["bound"]
    ]
    if rows:
        st.subheader("Over time")
        st.caption(
            "Effect of each check relative to the smallest effect that matters (1, the dashed line). A cross marks a check that "
            "drifted: the effect matters and is not explained by chance."
        )
        st.altair_chart(charts.drift_over_time(rows), width="stretch")
    st.subheader("One measurement")
    chosen = st.selectbox(
        "Measurement (UTC)", records[::-1], format_func=lambda record: f"{record.when:%Y-%m-%d %H:%M:%S} · {_found(record)}"
    )
    _record(context, chosen)


def _say(last: DriftRecord, nouns: NounSettings) -> None:
    """Say what the newest measurement found, with its figures if there was something to measure."""
    mark, answer, details = drift_answer(last.result, nouns)
    text = escaped(answer) + "".join(f"\n- {escaped(detail)}" for detail in details)
    {"good": st.success, "bad": st.error, "open": st.info}[mark](text)
    if not last.result["rows"]:
        return
    one, two, three = st.columns(3)
    checks, live = last.result["checks"], last.result["live"]
    one.metric("Checks that drifted", f"{sum(check['verdict'] == 'drifted' for check in checks)} of {len(checks)}")
    two.metric(f"New {nouns.events}", f"{last.result['rows']:,}")
    three.metric("Champion's NDCG@10 on them", f"{live['live']['ndcg_at_10']:.4f}" if live and live["live"] else "not measured")


def _record(context: Context, record: DriftRecord) -> None:
    for reason in record.result["reasons"] or ["Nothing has moved beyond its threshold."]:
        st.markdown(f"- {escaped(shortened(reason))}")
    plain_table(
        [
            {
                "check": check["name"],
                "reference": _figure(check["reference"]),
                "slice": _figure(check["current"]),
                "effect": _figure(check["effect"]),
                "matters above": _figure(check["bound"]),
                "p, corrected": _figure(check["adjusted_p"]),
                "verdict": check["verdict"],
                "in words": check["detail"],
            }
            for check in record.result["checks"]
        ]
    )
    link_to_reports({"This measurement as a report": record.page})
    if record.page is not None and st.toggle("Show the report"):
        st.iframe(context.view.store.get(record.page).decode(), height=1000)


def _found(record: DriftRecord) -> str:
    """Return the verdict of a measurement, which is none if no event was newer than the champion."""
    nothing = not record.result["rows"] and record.result.get("champion")
    return "nothing new" if nothing else str(record.result["verdict"])


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
