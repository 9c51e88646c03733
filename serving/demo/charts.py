"""Charts of the demo. Each function turns plain rows into an Altair chart."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import altair as alt
import pandas as pd

from configs.kinds import colour_of
from infra.pages import BLUE, GREY, ORANGE, RED, SAND

__all__ = [
    "agreement",
    "champions",
    "course",
    "differences",
    "drift_over_time",
    "history_line",
    "metric_intervals",
    "ranks_over_gaps",
    "round_trips",
]

ENTRIES = {
    "promote": BLUE, "advance": BLUE, "rollback": ORANGE, "return": ORANGE, "force": RED, "freeze": GREY, "thaw": SAND,
}  # fmt: skip
"""Colour of each kind of entry in the promotion log."""

SHOWN_RANKS = 30
UTC = alt.Scale(type="utc", padding=35)  # pixels, so that the first and the last label are not cut
ROW = 22  # pixels of a row of a legend; the height of a chart includes its legend
BELOW = alt.Legend(
    title=None, orient="bottom", columns=1, labelLimit=420
)  # its names are long: beside the chart they would be cut
DAY = "%Y-%m-%d"
MINUTES = "%Y-%m-%d %H:%M"
Layers = alt.LayerChart | alt.FacetChart


def history_line(rows: Sequence[dict[str, Any]]) -> alt.Chart:
    """Plot a user's events by time and group: rows of time (datetime), title, group (the first genre or attribute)."""
    chart: alt.Chart = (
        alt.Chart(pd.DataFrame(rows))
        .mark_circle(size=55, opacity=0.65)
        .encode(
            x=alt.X("time:T", title=None, scale=UTC, axis=alt.Axis(format=DAY, labelOverlap=True, tickCount=4)),
            y=alt.Y("group:N", title=None, sort="-x"),
            color=alt.Color("group:N", legend=None, scale=alt.Scale(scheme="tableau20")),
            tooltip=["title:N", "time:T"],
        )
        .properties(height=alt.Step(18))
    )
    return chart


def ranks_over_gaps(rows: Sequence[dict[str, Any]], gaps: Sequence[str]) -> Layers:
    """Plot how the top ten change with the time before the request: rows of gap, title, rank."""
    frame = pd.DataFrame(rows)
    frame = frame[frame["rank"] <= SHOWN_RANKS]
    x = alt.X("gap:O", sort=list(gaps), title="time since the last event", axis=alt.Axis(labelAngle=0))
    y = alt.Y("rank:Q", scale=alt.Scale(reverse=True, domain=[1, SHOWN_RANKS]), title="rank")
    near = alt.selection_point(on="pointerover", fields=["title"], nearest=True, empty=False)
    lines = (
        alt.Chart(frame)
        .mark_line(interpolate="monotone", point=alt.OverlayMarkDef(size=42))
        .encode(
            x=x,
            y=y,
            color=alt.Color(
                "title:N",
                legend=BELOW,
                scale=alt.Scale(scheme="tableau20"),
            ),
            strokeWidth=alt.condition(near, alt.value(4), alt.value(1.6)),
            tooltip=["title:N", "gap:O", "rank:Q"],
        )
        .add_params(near)
    )
    ten = alt.Chart(pd.DataFrame({"rank": [10.5]})).mark_rule(color=GREY, strokeDash=[4, 4]).encode(y="rank:Q")
    return alt.layer(lines, ten).properties(height=400 + ROW * frame["title"].nunique())


def agreement(rows: Sequence[dict[str, Any]]) -> alt.Chart:
    """Plot the share of the first k items that two lists have in common: rows of k, share."""
    chart: alt.Chart = (
        alt.Chart(pd.DataFrame(rows))
        .mark_area(line={"color": BLUE}, color=BLUE, opacity=0.2)
        .encode(
            x=alt.X("k:Q", scale=alt.Scale(type="log"), title="first k of both lists"),
            y=alt.Y("share:Q", scale=alt.Scale(domain=[0, 1]), axis=alt.Axis(format="%"), title="in both lists"),
            tooltip=["k:Q", alt.Tooltip("share:Q", format=".0%")],
        )
        .properties(height=240)
    )
    return chart


def differences(rows: Sequence[dict[str, Any]]) -> Layers:
    """Plot the ranks of the same items in two lists: rows of title, left, right."""
    frame = pd.DataFrame(rows)
    most = int(max(frame["left"].max(), frame["right"].max()))
    scale = alt.Scale(type="log", domain=[1, most])
    points = (
        alt.Chart(frame)
        .mark_circle(size=60, color=BLUE, opacity=0.6)
        .encode(
            x=alt.X("left:Q", scale=scale, title="rank in the left list"),
            y=alt.Y("right:Q", scale=scale, title="rank in the right list"),
            tooltip=["title:N", "left:Q", "right:Q"],
        )
    )
    line = alt.Chart(pd.DataFrame({"left": [1, most], "right": [1, most]})).mark_line(color=GREY, strokeDash=[4, 4])
    return alt.layer(line.encode(x="left:Q", y="right:Q"), points).properties(height=240)


def champions(rows: Sequence[dict[str, Any]]) -> alt.Chart:
    """Plot which version was the champion when: rows of version, start, end (datetimes), kind, reason."""
    kinds = [kind for kind in ENTRIES if any(row["kind"] == kind for row in rows)]  # a legend of all is wider than a phone
    chart: alt.Chart = (
        alt.Chart(pd.DataFrame(rows))
        .mark_bar(height=18, cornerRadius=4)
        .encode(
            x=alt.X("start:T", title=None, scale=UTC, axis=alt.Axis(format=MINUTES, labelOverlap=True, tickCount=6)),
            x2="end:T",
            y=alt.Y("version:N", title=None, sort=alt.EncodingSortField("start"), axis=alt.Axis(labelLimit=220)),
            color=alt.Color(
                "kind:N",
                title="entry of the log",
                legend=alt.Legend(orient="bottom", columns=3),
                scale=alt.Scale(domain=kinds, range=[ENTRIES[kind] for kind in kinds]),
            ),
            tooltip=["version:N", "start:T", "end:T", "kind:N", "reason:N"],
        )
        .properties(height=alt.Step(34))
    )
    return chart


def metric_intervals(rows: Sequence[dict[str, Any]], metric: str) -> Layers:
    """Plot a metric with its interval by version and model: rows of version, model, value, low, high."""
    models = list(dict.fromkeys(str(row["model"]) for row in rows))
    base = alt.Chart(pd.DataFrame(rows)).encode(
        y=alt.Y("version:N", title=None, sort=None, axis=alt.Axis(labelLimit=220)),
        yOffset=alt.YOffset("model:N"),
        color=alt.Color(
            "model:N",
            title=None,
            legend=alt.Legend(orient="bottom"),
            scale=alt.Scale(domain=models, range=[colour_of(model) for model in models]),
        ),
    )
    tooltip = ["version:N", "model:N", alt.Tooltip("value:Q", format=".4f"), alt.Tooltip("low:Q", format=".4f"), alt.Tooltip("high:Q", format=".4f")]  # fmt: skip
    rule = base.mark_rule(strokeWidth=3).encode(
        x=alt.X("low:Q", title=metric, scale=alt.Scale(zero=True)), x2="high:Q", tooltip=tooltip
    )
    point = base.mark_point(filled=True, size=90, opacity=1).encode(x="value:Q", tooltip=tooltip)
    return alt.layer(rule, point).properties(height=alt.Step(22))


def drift_over_time(rows: Sequence[dict[str, Any]]) -> Layers:
    """Plot sizes by check and time: rows of when (datetime), check, size (effect / bound), effect, bound, verdict, dataset."""
    base = alt.Chart(pd.DataFrame(rows)).encode(
        x=alt.X("when:T", title=None, scale=UTC, axis=alt.Axis(format=MINUTES, labelOverlap=True, tickCount=6))
    )
    lines = base.mark_line(point=alt.OverlayMarkDef(size=60), strokeWidth=2).encode(
        y=alt.Y("size:Q", title="effect / threshold"),
        color=alt.Color("check:N", scale=alt.Scale(scheme="tableau20"), legend=BELOW),
        tooltip=[
            "check:N",
            "when:T",
            alt.Tooltip("effect:Q", format=".3f"),
            alt.Tooltip("bound:Q", format=".3f"),
            "verdict:N",
            "dataset:N",
        ],
    )
    marks = (
        base.transform_filter("datum.verdict == 'drifted'")
        .mark_point(
            shape="cross", angle=45, size=190, color=RED, strokeWidth=2, aria=False
        )  # the verdict is in the lines' tooltips
        .encode(y="size:Q")
    )
    bound = base.mark_rule(strokeDash=[4, 4], color=GREY, aria=False).encode(
        x=alt.value(0), x2=alt.value("width"), y=alt.datum(1.0)
    )
    return alt.layer(bound, lines, marks).properties(height=320 + ROW * len({row["check"] for row in rows}))


def round_trips(rows: Sequence[dict[str, Any]]) -> alt.Chart:
    """Plot the milliseconds of each call: rows of number, what (list or event), ms."""
    chart: alt.Chart = (
        alt.Chart(pd.DataFrame(rows[-60:]))
        .mark_bar(width=6)
        .encode(
            x=alt.X("number:Q", title="call", axis=alt.Axis(tickMinStep=1, format="d")),
            y=alt.Y("ms:Q", title="ms"),
            color=alt.Color(
                "what:N",
                title=None,
                scale=alt.Scale(domain=["list", "event"], range=[BLUE, ORANGE]),
                legend=alt.Legend(orient="bottom"),
            ),
            tooltip=["what:N", alt.Tooltip("ms:Q", format=".1f")],
        )
        .properties(height=240)
    )
    return chart


def course(found: dict[str, list[float]], decided_at: int | None, colour: str) -> Layers:
    """Plot the difference between two arms as users entered, with the interval that is valid at all looks."""
    frame = pd.DataFrame(found)
    late = frame.iloc[len(frame) // 10 :]  # the first intervals are so wide that they would flatten the rest
    domain = [float(late["low"].min()), float(late["high"].max())]
    base = alt.Chart(frame).encode(x=alt.X("users:Q", title="users with a completed horizon"))
    y = alt.Y("low:Q", title="difference per user", scale=alt.Scale(domain=domain, clamp=True))
    band = base.mark_area(opacity=0.2, color=colour).encode(y=y, y2="high:Q")
    line = base.mark_line(color=colour, strokeWidth=2.2, clip=True).encode(y="difference:Q")
    zero = alt.Chart(pd.DataFrame({"y": [0.0]})).mark_rule(color=GREY).encode(y="y:Q")
    layers = [band, line, zero]
    if decided_at is not None:
        layers.append(alt.Chart(pd.DataFrame({"x": [decided_at]})).mark_rule(color=colour, strokeDash=[3, 3]).encode(x="x:Q"))
    return alt.layer(*layers).properties(height=300)


def ends(starts: Sequence[datetime], now: datetime) -> list[datetime]:
    """Return when each champion was replaced: when the next one started."""
    return [*starts[1:], now]
