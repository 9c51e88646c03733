"""Page: whether the data has drifted from the champion's reference, now and over time."""

from __future__ import annotations

import streamlit as st

from infra.pages import escaped
from serving.demo import Context, DriftRecord, charts, plain_table

__all__ = ["show"]


def show(context: Context) -> None:
    """Draw the page."""
    st.title("Drift")
    records = context.view.drift()
    if not records:
        st.info("Drift has not been measured yet. `recsys monitor` compares the newest events with the champion's reference.")
        return
    last = records[-1]
    one, two, three, four = st.columns(4)
    checks = last.result["checks"]
    one.metric("Newest slice", last.result["verdict"])
    two.metric("Checks that drifted", f"{sum(check['verdict'] == 'drifted' for check in checks)} of {len(checks)}")
    three.metric("Events in the slice", f"{last.result['rows']:,}")
    live = last.result["live"]
    four.metric(
        "Champion's NDCG@10 on new events", f"{live['live']['ndcg_at_10']:.4f}" if live and live["live"] else "not measured"
    )
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
    labels = {
        f"{record.when:%Y-%m-%d %H:%M:%S} UTC · {record.dataset} · {record.result['verdict']}": record
        for record in reversed(records)
    }
    _record(context, labels[st.selectbox("Measurement", list(labels))])


def _record(context: Context, record: DriftRecord) -> None:
    for reason in record.result["reasons"] or ["Nothing has moved beyond its threshold."]:
        st.markdown(f"- {escaped(reason)}")
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
    if record.page is not None and st.toggle("Show the report"):
        st.iframe(context.view.store.get(record.page).decode(), height=1000)


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
